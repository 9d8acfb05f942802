"""The text around a private key: taking off its wrapping, and telling what is inside.

Knows PEM, bare base64, DER, and the outline of the structures that hold keys; reads a key's file. A key is told by its
DER structure, never by the label around it, because people wrap the guide's bare base64 in whatever label comes to
mind. Does not know what a key is good for: numbers, ciphers and signatures are the business of `_auth`, which is the
only caller, and `cryptography` is not needed here.

No error holds any part of a key or passphrase, and none is chained to an error that does.

Sources: RFC 7468 and RFC 1421 (PEM), X.690 (DER), RFC 5958 and RFC 8017 (structures).
"""

from __future__ import annotations

import base64
import codecs
import re
from pathlib import Path, PurePath

from etorox_proto._errors import CredentialsError

__all__ = ["password_bytes", "read_source", "unwrap"]

_LONGEST_SOURCE = 65536  # bytes; a key of 16384 bits takes 13 KB as PEM

# RFC 1421: a dash inside a block can only be part of a header such as DEK-Info; five begin another line.
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----((?:(?!-----).)*)-----END \1-----", re.DOTALL)
_HEADERS = re.compile(r"(?:\s*[A-Za-z-]+:\s*\S+)*")
# With an initialisation vector shorter than the cipher takes, `cryptography` panics instead of raising.
_CIPHER = re.compile(r"DEK-Info:\s*(AES-(?:128|192|256)-CBC,[0-9A-Fa-f]{32}|DES-EDE3-CBC,[0-9A-Fa-f]{16})(?!\S)")

# The tags of a DER sequence's members tell what it is; the first row that fits decides.
_STRUCTURES = (
    (re.compile(rb"\x02\x30\x04"), "PKCS#8"),  # version, algorithm, key
    (re.compile(rb"\x30\x04\Z"), "encrypted PKCS#8"),  # algorithm, ciphertext
    (re.compile(rb"\x02{9}"), "PKCS#1"),  # version, n, e, d, p, q, dp, dq, qinv
    (re.compile(rb"\x30\x03\Z|\x02\x02\Z"), "a public key"),  # algorithm, key; or n, e
    (re.compile(rb"\x30\x30\x03\Z"), "a certificate"),  # content, algorithm, signature; also its request
    (re.compile(rb"\x02\x30\x30\Z"), "a PKCS#12 container, out of which the key must be taken first"),
    (re.compile(rb"\x02\x04"), "an EC private key"),  # version, key
    (re.compile(rb"\x02{6}\Z"), "a DSA private key"),  # version, p, q, g, y, x
)


def password_bytes(passphrase: object) -> bytes:
    """The passphrase as bytes; `b""` for the empty one.

    Raises:
        CredentialsError: it is no str, bytes or None, or a str that has no UTF-8 form.
    """
    if passphrase is None:
        return b""
    if isinstance(passphrase, bytes):
        return passphrase
    if not isinstance(passphrase, str):
        raise CredentialsError(f"the passphrase must be str, bytes or None, not {type(passphrase).__name__}")
    try:
        return passphrase.encode()
    except UnicodeEncodeError:
        reason = "the passphrase is not valid Unicode: pass it as bytes"
    # Not from inside the handler: the error there holds the passphrase, and would be this one's `__context__`.
    raise CredentialsError(reason)


def read_source(source: object) -> tuple[str, str | bytes]:
    """What to call the source in an error, and its content, of at most one byte more than `unwrap` accepts.

    Raises:
        CredentialsError: it is no str, bytes or Path, or a file that cannot be read.
    """
    if isinstance(source, str | bytes):
        return "the private key", source
    if not isinstance(source, PurePath):
        kind = type(source).__name__
        raise CredentialsError(f"the private key must be str, bytes or pathlib.Path, not {kind}")
    # A key's text, made into a Path by mistake, must not come back in the message: an RSA key is longer, PEM
    # has line ends, and a short key of another kind is base64 of a DER sequence.
    path = str(source)
    shown = len(path) <= 255 and path.isprintable() and not re.match(r"M[A-P][A-Za-z0-9+/]{38,}=*\Z", path)
    name = f"the private key in {path}" if shown else "the private key in that file"
    try:
        with Path(source).open("rb") as file:
            return name, file.read(_LONGEST_SOURCE + 1)
    except OSError as error:
        reason = error.strerror
    except ValueError:
        reason = "no file can have this name"
    raise CredentialsError(f"{name} cannot be read: {reason}")


def unwrap(name: str, content: str | bytes) -> tuple[str, bytes, str]:
    """Take off the wrapping.

    Args:
        name: what to call the key in an error.
        content: the key in any wrapping.

    Returns:
        What the structure is called, such as `PKCS#8`, `encrypted PKCS#1` or `a public key`; the DER; and what the
        wrapping was: `PEM`, `bare base64` or `DER`. PKCS#1 that is encrypted in the traditional way has no DER before
        it is decrypted: it stays PEM, tidied.

    Raises:
        CredentialsError: it is too long, empty, ambiguous, incomplete, or nothing that holds a key.
    """
    if len(content) > _LONGEST_SOURCE:
        raise CredentialsError(f"{name} is longer than {_LONGEST_SOURCE // 1024} KiB, which no key is")
    if isinstance(content, bytes) and content.startswith(b"0") and b"-----BEGIN" not in content:
        return _structure(name, content), content, "DER"
    text = _text(content)
    if not text.strip():
        raise CredentialsError(f"{name} is empty")
    blocks: list[tuple[str, str]] = _PEM.findall(text)
    private = [block for block in blocks if block[0].endswith("PRIVATE KEY")]
    if len(private) > 1:
        raise CredentialsError(f"{name} is ambiguous: there are {len(private)} private keys")
    if not blocks and "-----" in text:
        raise CredentialsError(f"{name} is incomplete: its -----BEGIN and -----END lines do not match")
    if not blocks:
        bare = "".join(text.split()).strip("\"'")
        der = _decode(bare)
        hint = ""
        if isinstance(content, str) and len(content) <= 255 and len(content.splitlines()) == 1:
            hint = "; pass a pathlib.Path to read a file"
        # "MI" begins every DER sequence of 128 bytes or more: a text that begins so is meant to be a key.
        if not bare.startswith("MI") and not der.startswith(b"\x30"):
            raise CredentialsError(f"{name} is no key, neither as PEM nor as base64 nor as DER{hint}")
        return _structure(name, der, hint), der, "bare base64"

    label, body = (private or blocks)[0]
    if label == "OPENSSH PRIVATE KEY":
        raise CredentialsError(f"{name} is in OpenSSH's own format: convert it to PKCS#8 first")
    headers = _HEADERS.match(body)
    assert headers is not None, "the pattern matches nothing, too"
    der = _decode(body[headers.end() :])
    if "DEK-Info" not in headers[0]:
        return _structure(name, der), der, "PEM"
    cipher = _CIPHER.search(headers[0])
    if cipher is None:
        raise CredentialsError(f"{name} is encrypted with a cipher that is unknown here, or damaged")
    # Old versions of `cryptography` leave PEM to OpenSSL, which wants lines of 64 characters.
    wrapped = "\n".join(re.findall(".{1,64}", base64.b64encode(der).decode("ascii")))
    lines = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: {cipher[1]}\n\n{wrapped}"
    return "encrypted PKCS#1", f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode(), "PEM"


def _text(content: str | bytes) -> str:
    if isinstance(content, bytes):
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        # Whatever cannot be decoded is replaced: an exception would carry the content along.
        content = content.decode("utf-16" if utf16 else "utf-8", errors="replace")
    return content.lstrip("\ufeff").replace("\\r", "").replace("\\n", "\n")


def _decode(text: str) -> bytes:
    """The bytes behind base64 with whitespace in it; `b""` if it is none."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return b""


def _structure(name: str, der: bytes, hint: str = "") -> str:
    """What the DER is, by `_STRUCTURES`."""
    tags = _tags(der)
    if tags is None:
        raise CredentialsError(f"{name} is incomplete or damaged{hint}")
    for pattern, structure in _STRUCTURES:
        if pattern.match(tags):
            return structure
    raise CredentialsError(f"{name} is no key: it is DER of something else{hint}")


def _tags(der: bytes) -> bytes | None:
    """The tags of a DER sequence's members; None if it is no sequence, or lengths do not add up (X.690)."""
    tags = bytearray()
    position = 0
    while position + 2 <= len(der):
        tag, length = der[position : position + 2]
        position += 2
        if length >= 0x80:
            octets = length - 0x80
            length = int.from_bytes(der[position : position + octets], "big")
            position += octets
        tags.append(tag)
        if len(tags) > 1:
            position += length
        elif tag != 0x30 or position + length != len(der):
            return None
    return bytes(tags[1:]) if tags and position == len(der) else None
