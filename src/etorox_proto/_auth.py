"""Who the client is: private keys, signatures, and the argument of `setup`.

Knows how a private key is decrypted and loaded, what is signed, and how. Knows nothing of connections:
`ExchangeConnection` calls `setup_argument` once for each attempt, the embedded exchange verifies with `PublicKey`, and
people who keep their key elsewhere bring a `Signer` of their own.

`_key_text` takes off the wrapping and tells what is inside; this module loads what can be loaded, with `cryptography`,
which takes longer to import than the rest of the package: it is imported when a key is used, and never by those who
bring their own `Signer`. No error holds any part of a key or passphrase, and none is chained to an error that does.

Sources: the exchange's streaming documentation, authentication; RFC 8018 (encrypted PKCS#8), RFC 8017 (RSA).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, final

from etorox_proto._errors import CredentialsError, SigningFailed
from etorox_proto._key_text import password_bytes, read_source, unwrap

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256

__all__ = [
    "Credentials",
    "PrivateKey",
    "PublicKey",
    "Signer",
    "generate_private_key",
    "load_private_key",
    "setup_argument",
]


class Signer(Protocol):
    """Whatever can sign: a `PrivateKey`, or your own front to an HSM, a key service, an agent."""

    def sign(self, payload: bytes, /) -> bytes:
        """Sign `payload` with RSASSA-PKCS1-v1_5 and SHA-256.

        Called once for each connection attempt, synchronously, from inside an input method of the machine:
        the whole connection waits meanwhile. Any exception ends that attempt with `SigningFailed`, as does
        returning anything but non-empty bytes; its `may_retry` is False.

        Args:
            payload: the nonce and the timestamp as text, UTF-8, some 50 bytes. Not hashed yet.

        Returns:
            The raw signature, as long as the modulus; not base64.
        """
        ...


@final
class PublicKey:
    """The public half of an RSA key: verifies what the private half signed. Made by `from_pem`.

    Attributes:
        bits: length of the modulus.
        fingerprint: SHA-256 of the DER SubjectPublicKeyInfo, 64 hexadecimal digits. Two keys with the same
            fingerprint are the same key, whatever they are encrypted under. The same number comes from
            `openssl pkey -in FILE -pubout -outform DER | sha256sum`.
        pem: the key as PEM text, SubjectPublicKeyInfo (`BEGIN PUBLIC KEY`).
    """

    __slots__ = ("_key", "bits", "fingerprint", "pem")

    def __init__(self, key: RSAPublicKey) -> None:
        import hashlib

        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        info = PublicFormat.SubjectPublicKeyInfo
        self._key: Final = key
        self.bits: Final = key.key_size
        self.fingerprint: Final = hashlib.sha256(key.public_bytes(Encoding.DER, info)).hexdigest()
        self.pem: Final = key.public_bytes(Encoding.PEM, info).decode("ascii")

    @classmethod
    def from_pem(cls, pem: str) -> PublicKey:
        """Load a public key.

        Args:
            pem: PEM text, SubjectPublicKeyInfo or PKCS#1; indentation and text around it do not matter.

        Raises:
            CredentialsError: it is no PEM, no public key, no RSA key, or too short to verify anything with.
        """
        from cryptography.exceptions import InternalError, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        name = "the public key"
        structure, der, wrapping = unwrap(name, pem)
        if structure != "a public key":
            got = "a private key" if structure.endswith(("PKCS#8", "PKCS#1")) else structure
            raise CredentialsError(f"{name} cannot be used: expected an RSA public key, got {got}")
        if wrapping != "PEM":
            raise CredentialsError(f"{name} is not PEM text: its -----BEGIN and -----END lines are missing")
        try:
            key = load_der_public_key(der)
        except (ValueError, UnsupportedAlgorithm, InternalError):
            raise CredentialsError(f"{name} is damaged, or of a kind that cannot be used here") from None
        if not isinstance(key, RSAPublicKey):
            raise CredentialsError(f"{name} cannot be used: it is not an RSA key")
        _check_length(name, key.key_size)
        return cls(key)

    def verify(self, payload: bytes, signature: bytes) -> bool:
        """Whether `signature` is the raw RSASSA-PKCS1-v1_5 signature of `payload` with SHA-256."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, payload, *_scheme())
        except InvalidSignature:
            return False
        return True

    def verify_setup(self, *, nonce: str, timestamp: int, signature: str) -> bool:
        """Whether the fields of a `setup` argument belong together. Says nothing of their age or reuse.

        Args:
            nonce: as received.
            timestamp: as received, in milliseconds since the epoch.
            signature: standard base64 with padding, as received.

        Returns:
            False for any mismatch, malformed base64 included; nothing is raised.
        """
        try:
            payload = _setup_payload(nonce, timestamp)
            raw = base64.b64decode(signature, validate=True)
        except ValueError:
            return False
        return self.verify(payload, raw)

    def __repr__(self) -> str:
        return f"PublicKey(bits={self.bits}, fingerprint={self.fingerprint!r})"


@final
class PrivateKey:
    """An RSA private key, ready to sign; a `Signer`. Made by `load_private_key`.

    It cannot be pickled or copied, so it does not end up in a file or another process by accident. Threads
    may share it. The same payload always gives the same signature.

    Attributes:
        bits: length of the modulus.
        fingerprint: that of the public half, see `PublicKey`; shows nothing of the private half.
        format: the form in which the key was given, such as `PKCS#1, PEM` or
            `PKCS#8, encrypted under the empty passphrase, bare base64`.
        public_key: the public half.
    """

    __slots__ = ("_key", "bits", "fingerprint", "format", "public_key")

    def __init__(self, key: RSAPrivateKey, given_as: str) -> None:
        self._key: Final = key
        self.format: Final = given_as
        self.public_key: Final = PublicKey(key.public_key())
        self.bits: Final = self.public_key.bits
        self.fingerprint: Final = self.public_key.fingerprint

    def sign(self, payload: bytes, /) -> bytes:
        """Sign `payload` with RSASSA-PKCS1-v1_5 and SHA-256; gives `bits / 8` bytes, rounded up."""
        return self._key.sign(payload, *_scheme())

    def public_key_pem(self) -> str:
        """The public half as PEM text, SubjectPublicKeyInfo: what the other side needs to verify."""
        return self.public_key.pem

    def __repr__(self) -> str:
        return f"PrivateKey(bits={self.bits}, fingerprint={self.fingerprint!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivateKey cannot be pickled or copied; load it again where it is needed")


@final
@dataclass(frozen=True, slots=True)
class Credentials:
    """An API key and the means to sign for it. Checked when made, frozen afterwards; `repr` shows neither.

    Attributes:
        api_key: the API token's key, a UUID; it becomes a segment of the hub's URL.
        signer: signs each attempt's `setup`.

    Raises:
        CredentialsError: the API key is not text, empty, or holds a character other than `A-Z`,
            `a-z`, `0-9`, `.`, `_`, `~`, `-`; or the signer has no method `sign`.
    """

    api_key: str = field(repr=False)
    signer: Signer = field(repr=False)

    def __post_init__(self) -> None:
        # Types are checked as well: both values tend to come from configuration files.
        api_key: object = self.api_key
        if not isinstance(api_key, str):
            raise CredentialsError(f"the API key must be a str, not {type(api_key).__name__}")
        if not api_key:
            raise CredentialsError("the API key is empty")
        if any(character.isspace() for character in api_key):
            raise CredentialsError("the API key has whitespace in it, perhaps a line end from a file")
        # RFC 3986, section 2.3: what needs no escape in a URL; and 5.2.4: dots alone are a way up.
        if not re.fullmatch(r"[A-Za-z0-9._~-]+", api_key) or api_key in {".", ".."}:
            raise CredentialsError("the API key must be made of A-Z a-z 0-9 . _ ~ - as it is part of a URL")
        if not callable(getattr(self.signer, "sign", None)):
            raise CredentialsError(
                f"the signer, of type {type(self.signer).__name__}, cannot sign; Credentials.load takes a key"
            )

    @classmethod
    def load(cls, api_key: str, source: str | bytes | Path, passphrase: str | bytes | None = None) -> Credentials:
        """Make credentials from an API key and a private key as the exchange gives them.

        Args:
            api_key: the API token's key.
            source: the private key, see `load_private_key`.
            passphrase: what the private key is encrypted under, see `load_private_key`.

        Raises:
            CredentialsError: the API key or the private key cannot be used.
        """
        return cls(api_key, load_private_key(source, passphrase))


def setup_argument(credentials: Credentials, *, nonce: str, timestamp: int) -> dict[str, str | int]:
    """Sign, and build the one argument of the hub method `setup`.

    Args:
        credentials: who signs.
        nonce: fresh for each attempt, a UUID; the exchange refuses one that it has seen before.
        timestamp: now, in milliseconds since the epoch, by the exchange's clock as well as it is known.

    Returns:
        An object with the fields `apiKey`, `nonce`, `timestamp` and `signature` (base64).

    Raises:
        SigningFailed: the signer raised (its exception is `__cause__`), or returned no signature.
    """
    try:
        signature: object = credentials.signer.sign(_setup_payload(nonce, timestamp))
    except Exception as error:
        raise SigningFailed(f"signing raised {type(error).__name__}") from error
    if not isinstance(signature, bytes):
        raise SigningFailed(f"the signer returned {type(signature).__name__} instead of bytes")
    if not signature:
        raise SigningFailed("the signer returned an empty signature")
    return {
        "apiKey": credentials.api_key,
        "nonce": nonce,
        "timestamp": timestamp,
        "signature": base64.b64encode(signature).decode("ascii"),
    }


def load_private_key(source: str | bytes | Path, passphrase: str | bytes | None = None) -> PrivateKey:
    r"""Load an RSA private key in any of the forms in which the exchange and common tools give it.

    Those are PKCS#8, encrypted or not, and PKCS#1, encrypted in the traditional way (`Proc-Type:
    4,ENCRYPTED`) or not; as PEM, as the bare base64 between PEM's first and last line, or as DER bytes. Line
    ends, indentation, a byte-order mark, quotes around a bare key, line ends written as `\n`, and text around
    PEM lines do not matter.

    Args:
        source: the key itself, as text or bytes; or a `pathlib.Path`, to read that file, of at most 64 KiB. A
            str is always the key itself, never the name of a file.
        passphrase: what the key is encrypted under; a str is encoded as UTF-8. None and `""` both stand for
            the empty passphrase, under which the exchange encrypts. Ignored if the key is not encrypted.

    Returns:
        The key, ready to sign. Nothing else is kept: neither the source nor the passphrase.

    Raises:
        CredentialsError: the file cannot be read; the source is empty, no key, incomplete or damaged; it is a
            public key, a certificate, or not RSA; the passphrase is missing or wrong; or the modulus is
            shorter than the 489 bits that a signature with SHA-256 takes. 1024 bits are enough. The message
            shows the name of the file, but no part of the key or passphrase.
    """
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    password = password_bytes(passphrase)
    name, content = read_source(source)
    structure, data, wrapping = unwrap(name, content)
    form, encrypted = structure.removeprefix("encrypted "), structure.startswith("encrypted ")
    if form not in {"PKCS#8", "PKCS#1"}:
        raise CredentialsError(f"{name} cannot be used: expected an RSA private key, got {structure}")
    load = load_pem_private_key if structure == "encrypted PKCS#1" else load_der_private_key

    try:
        key = load(data, (password or _EMPTY) if encrypted else None)
    except (ValueError, UnsupportedAlgorithm, InternalError):
        # One answer for both: a wrong passphrase is indistinguishable from damage once in a few hundred
        # times, when the padding of what was decrypted happens to be right.
        if not encrypted:
            reason = "is damaged, or of a kind that cannot be used here"
        elif not password:
            reason = "is encrypted, and not under the empty passphrase: a passphrase is needed"
        else:
            reason = "cannot be decrypted: the passphrase is wrong, or the key is damaged"
        raise CredentialsError(f"{name} {reason}") from None
    if not isinstance(key, RSAPrivateKey):
        raise CredentialsError(f"{name} cannot be used: it is not an RSA key")
    _check_length(name, key.key_size)

    cipher = "" if not encrypted else ", encrypted" if password else ", encrypted under the empty passphrase"
    return PrivateKey(key, f"{form}{cipher}, {wrapping}")


def generate_private_key(bits: int = 2048) -> str:
    """Make a new key as the exchange gives it.

    That is PEM, PKCS#8, encrypted with AES-256-CBC under the empty passphrase. For simulators and tests: the
    exchange makes its customers' keys itself. This is the one function of the package that draws entropy of
    its own (through `cryptography`), so two calls never give the same key.

    Args:
        bits: length of the modulus, at least 1024; making 4096 takes about a second.

    Raises:
        CredentialsError: `bits` is less than 1024.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    if bits < 1024:
        raise CredentialsError(f"a key of {bits} bits would be too short: at least 1024 are needed")
    key = generate(public_exponent=65537, key_size=bits)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(_EMPTY))
    return pem.decode("ascii")


# `cryptography` takes an empty password to mean "not encrypted" and refuses it. PBKDF2 and scrypt only use a
# password as the key of an HMAC, and HMAC fills a short key up with zero bytes (RFC 2104, section 2): this
# password derives the same cipher key as the empty one.
_EMPTY = b"\0"

_SHORTEST_MODULUS = 62  # bytes; RFC 8017, section 9.2: 51 of DigestInfo for SHA-256, 11 of padding


def _setup_payload(nonce: str, timestamp: int) -> bytes:
    return f"{nonce}{timestamp}".encode()


def _scheme() -> tuple[PKCS1v15, SHA256]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return PKCS1v15(), SHA256()


def _check_length(name: str, bits: int) -> None:
    if (bits + 7) // 8 < _SHORTEST_MODULUS:
        raise CredentialsError(f"{name} has {bits} bits: too short to sign with SHA-256, which takes 489")
