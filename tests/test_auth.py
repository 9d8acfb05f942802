"""Keys, signatures and the argument of `setup`.

The fixed keys in `data/keys` and the expected signatures come from OpenSSL, see the README there.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import errno
import os
import pickle
import re
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etorox_proto import (
    Credentials,
    CredentialsError,
    PrivateKey,
    PublicKey,
    Signer,
    SigningFailed,
    generate_private_key,
    load_private_key,
    setup_argument,
)

KEYS = Path(__file__).parent / "data" / "keys"
API_KEY = "0d5f0c9e-2f4f-4c1c-9a3e-7c1e1d9f2b11"
NONCE = "466e190f-55eb-457e-b4b7-8393f7f01a7b"
TIMESTAMP = 1596449777631

FORMS = {
    "pkcs8-empty": "PKCS#8, encrypted under the empty passphrase",
    "pkcs8-secret": "PKCS#8, encrypted",
    "pkcs8": "PKCS#8",
    "pkcs1-secret": "PKCS#1, encrypted",
    "pkcs1": "PKCS#1",
}
# Traditional encryption lives in PEM headers, so it has no bare form.
BARE_FORMS = [form for form in FORMS if form != "pkcs1-secret"]


def pem(name: str) -> str:
    return (KEYS / f"{name}.pem").read_text("ascii")


def body(name: str) -> str:
    """What is between the first and the last line, without the line ends."""
    return "".join(pem(name).split("\n")[1:-2])


def der(name: str) -> bytes:
    return base64.b64decode(body(name))


def fingerprint(bits: int) -> str:
    return (KEYS / f"rsa{bits}-fingerprint.txt").read_text("ascii").strip()


def signature(bits: int) -> str:
    return (KEYS / f"rsa{bits}-setup.sig").read_text("ascii").strip()


def passphrase_of(form: str) -> str | None:
    return "secret" if form.endswith("secret") else None


def refusal(source: Any, passphrase: Any = None) -> str:
    """The message with which a key is refused, after looking for leaks everywhere in the error."""
    with pytest.raises(CredentialsError) as caught:
        load_private_key(source, passphrase)
    shown = everything_shown_by(caught.value)
    if not isinstance(source, Path):
        assert_shows_nothing_of(source, shown)
    if passphrase:
        secret = passphrase.decode() if isinstance(passphrase, bytes) else str(passphrase)
        assert secret not in shown
    return str(caught.value)


def everything_shown_by(error: BaseException) -> str:
    shown = "".join(traceback.format_exception(error))
    chain: BaseException | None = error
    while chain is not None:
        shown += f"{chain!s}{chain!r}{vars(chain)}"
        chain = chain.__cause__ or chain.__context__
    return shown


def assert_shows_nothing_of(source: object, shown: str) -> None:
    """No eight characters in a row of the key's base64 or hexadecimal digits are shown."""
    assert isinstance(source, str | bytes)
    if isinstance(source, bytes) and source.startswith(b"0"):
        raw, text = source, base64.b64encode(source).decode()
    else:
        text = source.decode("latin-1") if isinstance(source, bytes) else source
        text = "".join(re.sub(r"-----[A-Z0-9 ]+-----", "", text).split())
        raw = text.encode("utf-8", "replace")
    for secret in (text, raw.hex(), repr(raw)):
        for start in range(len(secret) - 7):
            assert secret[start : start + 8] not in shown


# ------------------------------------------------------------------------------------------------ forms of a key


@pytest.mark.parametrize("bits", [1024, 2048])
@pytest.mark.parametrize("form", FORMS)
def test_pem_in_every_form(form: str, bits: int) -> None:
    key = load_private_key(pem(f"rsa{bits}-{form}"), passphrase_of(form))
    assert key.bits == bits
    assert key.format == f"{FORMS[form]}, PEM"
    assert key.fingerprint == fingerprint(bits)
    assert base64.b64encode(key.sign(f"{NONCE}{TIMESTAMP}".encode())).decode() == signature(bits)


@pytest.mark.parametrize("form", BARE_FORMS)
def test_bare_base64_in_every_form(form: str) -> None:
    key = load_private_key(body(f"rsa1024-{form}"), passphrase_of(form))
    assert key.format == f"{FORMS[form]}, bare base64"
    assert key.fingerprint == fingerprint(1024)


@pytest.mark.parametrize("form", BARE_FORMS)
def test_der_in_every_form(form: str) -> None:
    key = load_private_key(der(f"rsa1024-{form}"), passphrase_of(form))
    assert key.format == f"{FORMS[form]}, DER"
    assert key.fingerprint == fingerprint(1024)


@pytest.mark.parametrize("form", FORMS)
def test_text_as_bytes_and_as_a_file(form: str) -> None:
    path = KEYS / f"rsa1024-{form}.pem"
    from_bytes = load_private_key(path.read_bytes(), passphrase_of(form))
    from_file = load_private_key(path, passphrase_of(form))
    assert from_bytes.fingerprint == from_file.fingerprint == fingerprint(1024)
    assert from_bytes.format == from_file.format == f"{FORMS[form]}, PEM"


def test_der_file(tmp_path: Path) -> None:
    path = tmp_path / "key.der"
    path.write_bytes(der("rsa1024-pkcs8-empty"))
    assert load_private_key(path).fingerprint == fingerprint(1024)


def test_the_indented_bare_body_of_the_guide() -> None:
    lines = textwrap.wrap(body("rsa1024-pkcs8-empty"), 64)
    sample = "\r\n            ".join(["", *lines, ""])
    key = load_private_key(sample)
    assert key.format == "PKCS#8, encrypted under the empty passphrase, bare base64"
    assert key.fingerprint == fingerprint(1024)


def test_scrypt_under_the_empty_passphrase() -> None:
    key = load_private_key(pem("rsa1024-pkcs8-scrypt-empty"))
    assert key.format == "PKCS#8, encrypted under the empty passphrase, PEM"
    assert key.fingerprint == fingerprint(1024)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="crlf"),
        pytest.param(lambda text: text.replace("\n", "\r"), id="cr"),
        pytest.param(lambda text: textwrap.indent(text, "\t  "), id="indented"),
        pytest.param(lambda text: f"\n\n  {text}  \n", id="surrounded"),
        pytest.param(lambda text: text.replace("\n", " "), id="one line"),
        pytest.param(lambda text: text.replace("\n", "\\n"), id="escaped line ends"),
        pytest.param(lambda text: text.replace("\n", "\\r\\n"), id="escaped crlf"),
        pytest.param(lambda text: f'"{text}"', id="quoted"),
        pytest.param(lambda text: "\ufeff" + text, id="byte-order mark"),
        pytest.param(lambda text: b"\xef\xbb\xbf" + text.encode(), id="utf-8 with mark"),
        pytest.param(lambda text: text.encode("utf-16"), id="utf-16"),
        pytest.param(lambda text: b"\xfe\xff" + text.encode("utf-16-be"), id="utf-16, big endian"),
        pytest.param(lambda text: f"0 is the number of friends\n{text}".encode(), id="text before"),
        pytest.param(lambda text: pem("certificate") + text, id="certificate before"),
    ],
)
def test_layout_does_not_matter(form: str, disguise: Callable[[str], str | bytes]) -> None:
    key = load_private_key(disguise(pem(f"rsa1024-{form}")), passphrase_of(form))
    assert key.format == f"{FORMS[form]}, PEM"
    assert key.fingerprint == fingerprint(1024)


@pytest.mark.parametrize("form", BARE_FORMS)
@pytest.mark.parametrize("quoted", ["'{}'", '"{}"', '\ufeff "{}\\n" \n'])
def test_quotes_around_a_bare_body(form: str, quoted: str) -> None:
    key = load_private_key(quoted.format(body(f"rsa1024-{form}")), passphrase_of(form))
    assert key.fingerprint == fingerprint(1024)


@given(data=st.data(), form=st.sampled_from(["pkcs8", "pkcs1"]), bare=st.booleans())
def test_whitespace_in_the_body_does_not_matter(data: st.DataObject, form: str, bare: bool) -> None:
    text = body(f"rsa1024-{form}")
    for at in sorted(data.draw(st.lists(st.integers(0, len(text)))), reverse=True):
        text = text[:at] + data.draw(st.text(" \t\r\n", min_size=1, max_size=4)) + text[at:]
    if not bare:
        text = f"-----BEGIN PRIVATE KEY-----{text}-----END PRIVATE KEY-----"
    assert load_private_key(text).fingerprint == fingerprint(1024)


@pytest.mark.parametrize("form", BARE_FORMS)
@pytest.mark.parametrize("label", ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY"])
def test_the_label_does_not_matter(form: str, label: str) -> None:
    text = f"-----BEGIN {label}-----\n{body(f'rsa1024-{form}')}\n-----END {label}-----\n"
    key = load_private_key(text, passphrase_of(form))
    assert key.format == f"{FORMS[form]}, PEM"


def test_shortest_key_that_can_sign() -> None:
    key = load_private_key(pem("rsa489-pkcs8"))
    assert key.bits == 489
    assert key.public_key.verify(b"payload", key.sign(b"payload"))


# --------------------------------------------------------------------------------------------------- passphrases


@pytest.mark.parametrize("form", ["pkcs8-secret", "pkcs1-secret"])
def test_passphrase_as_bytes(form: str) -> None:
    assert load_private_key(pem(f"rsa1024-{form}"), b"secret").fingerprint == fingerprint(1024)


@pytest.mark.parametrize("passphrase", [None, "", b""])
def test_every_spelling_of_the_empty_passphrase(passphrase: str | bytes | None) -> None:
    key = load_private_key(pem("rsa2048-pkcs8-empty"), passphrase)
    assert key.format == "PKCS#8, encrypted under the empty passphrase, PEM"


@pytest.mark.parametrize("form", ["pkcs8", "pkcs1"])
def test_passphrase_is_ignored_if_the_key_is_not_encrypted(form: str) -> None:
    key = load_private_key(pem(f"rsa1024-{form}"), "not needed")
    assert key.format == f"{FORMS[form]}, PEM"


@pytest.mark.parametrize("passphrase", [None, "", b""])
@pytest.mark.parametrize("form", ["pkcs8-secret", "pkcs1-secret"])
def test_missing_passphrase(form: str, passphrase: str | bytes | None) -> None:
    assert "a passphrase is needed" in refusal(pem(f"rsa1024-{form}"), passphrase)


@pytest.mark.parametrize("passphrase", ["a wrong passphrase", b"a wrong passphrase", "falsch ü", "x" * 5000])
@pytest.mark.parametrize("form", ["pkcs8-empty", "pkcs8-secret", "pkcs1-secret"])
def test_wrong_passphrase(form: str, passphrase: str | bytes | None) -> None:
    assert "the passphrase is wrong" in refusal(pem(f"rsa1024-{form}"), passphrase)


@given(passphrase=st.text(min_size=1).filter(lambda text: text.strip("\0") not in {"", "secret"}))
def test_any_wrong_passphrase(passphrase: str) -> None:
    # About one in 256 decrypts to something that is well padded but no key: the error must be the same.
    with pytest.raises(CredentialsError, match="the passphrase is wrong"):
        load_private_key(pem("rsa1024-pkcs8-empty"), passphrase)


def test_passphrase_that_has_no_utf_8_form() -> None:
    word = "open" * 3
    with pytest.raises(CredentialsError, match="not valid Unicode: pass it as bytes") as caught:
        load_private_key(pem("rsa1024-pkcs8-secret"), f"{word}\udc80")
    assert word not in everything_shown_by(caught.value)


def test_passphrase_of_another_type() -> None:
    message = refusal(pem("rsa1024-pkcs8-secret"), 987654321)
    assert message == "the passphrase must be str, bytes or None, not int"


# ------------------------------------------------------------------------------------------- what is refused, why


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rsa1024-public", "expected an RSA private key, got a public key"),
        ("rsa1024-public-pkcs1", "expected an RSA private key, got a public key"),
        ("ec-public", "expected an RSA private key, got a public key"),
        ("certificate", "expected an RSA private key, got a certificate"),
        ("certificate-request", "expected an RSA private key, got a certificate"),
        ("ec-sec1", "expected an RSA private key, got an EC private key"),
        ("dsa-traditional", "expected an RSA private key, got a DSA private key"),
        ("ec-pkcs8", "it is not an RSA key"),
        ("ed25519-pkcs8", "it is not an RSA key"),
        ("dsa-pkcs8", "it is not an RSA key"),
        ("rsa480-pkcs8", "has 480 bits: too short to sign with SHA-256, which takes 489"),
    ],
)
def test_not_an_rsa_private_key(name: str, reason: str) -> None:
    assert reason in refusal(pem(name))
    assert reason in refusal(pem(name).encode())
    assert reason in refusal(der(name))
    assert reason in refusal(body(name))
    assert reason in refusal(KEYS / f"{name}.pem")


def test_pkcs12_container() -> None:
    assert "got a PKCS#12 container" in refusal((KEYS / "container.p12").read_bytes())


def test_openssh_key() -> None:
    assert "convert it to PKCS#8 first" in refusal(pem("rsa1024-openssh"))


def test_pkcs8_of_an_unknown_algorithm() -> None:
    unknown = der("rsa1024-pkcs8").replace(bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d010163"))
    assert refusal(unknown).endswith("is damaged, or of a kind that cannot be used here")


def test_der_of_something_else() -> None:
    assert refusal(bytes.fromhex("3003040100")).endswith("is no key: it is DER of something else")


def test_two_private_keys() -> None:
    both = pem("rsa1024-pkcs8") + pem("rsa2048-pkcs8")
    assert refusal(both).endswith("is ambiguous: there are 2 private keys")


@pytest.mark.parametrize("empty", ["", " \r\n\t", "\ufeff", b"", b"\n", b"\xef\xbb\xbf"])
def test_empty(empty: str | bytes) -> None:
    assert refusal(empty) == "the private key is empty"


@pytest.mark.parametrize("form", FORMS)
def test_pem_that_is_cut_off(form: str) -> None:
    text = pem(f"rsa1024-{form}")
    assert refusal(text[:400], "secret").endswith("its -----BEGIN and -----END lines do not match")
    assert refusal(text[100:], "secret").endswith("its -----BEGIN and -----END lines do not match")


@pytest.mark.parametrize("form", BARE_FORMS)
def test_body_that_is_cut_off(form: str) -> None:
    name = f"rsa1024-{form}"
    for damaged in (body(name)[:-8], body(name)[:-7], body(name)[:600] + "*" + body(name)[601:]):
        assert refusal(damaged, "secret") == "the private key is incomplete or damaged"
        framed = f"-----BEGIN PRIVATE KEY-----\n{damaged}\n-----END PRIVATE KEY-----"
        assert refusal(framed, "secret") == "the private key is incomplete or damaged"
    assert refusal(der(name)[:-1], "secret") == "the private key is incomplete or damaged"


@pytest.mark.parametrize("inside", ["", "no base64!", "Proc-Type: 4,ENCRYPTED\nDEK-Info: ü,\udc80\n\nMAA="])
def test_pem_around_something_else(inside: str) -> None:
    text = f"-----BEGIN RSA PRIVATE KEY-----\n{inside}\n-----END RSA PRIVATE KEY-----"
    with pytest.raises(CredentialsError, match="the private key is"):
        load_private_key(text)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [("AES-256-CBC", "ROT-13"), ("(AES-256-CBC,.{31}).", r"\1"), ("(AES-256-CBC),.*", r"\1")],
    ids=["unknown", "short vector", "no vector"],
)
def test_traditional_encryption_that_cannot_be_undone(pattern: str, replacement: str) -> None:
    text = re.sub(pattern, replacement, pem("rsa1024-pkcs1-secret"))
    assert refusal(text, "secret").endswith("is encrypted with a cipher that is unknown here, or damaged")


def test_damaged_key() -> None:
    damaged = bytearray(der("rsa1024-pkcs1"))
    damaged[-3] ^= 1
    assert refusal(bytes(damaged)).endswith("is damaged, or of a kind that cannot be used here")


@pytest.mark.parametrize("name", ["key.pem", "/home/me/keys/private", "C:\\keys\\key.pem", "~/key", "nonsense"])
def test_name_of_a_file_as_text(name: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        load_private_key(name)
    assert str(caught.value).endswith("pass a pathlib.Path to read a file")
    assert name not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", ["several lines\nof something", "x" * 256, b"key.pem"])
def test_other_text_gets_no_hint_about_files(text: str | bytes) -> None:
    assert refusal(text) == "the private key is no key, neither as PEM nor as base64 nor as DER"


@pytest.mark.parametrize("source", ["A" * 65537, b"0" * 65537])
def test_far_too_long(source: Any) -> None:
    with pytest.raises(CredentialsError, match="is longer than 64 KiB, which no key is"):
        load_private_key(source)


@pytest.mark.parametrize("source", [None, 7, bytearray(b"key"), ["key"]])
def test_source_of_another_type(source: Any) -> None:
    with pytest.raises(CredentialsError, match=r"must be str, bytes or pathlib\.Path, not "):
        load_private_key(source)


def test_missing_file(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none.pem")
    assert message == f"the private key in {tmp_path / 'none.pem'} cannot be read: {os.strerror(errno.ENOENT)}"


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"the private key in {tmp_path} cannot be read: ")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.pem"
    path.touch()
    assert refusal(path) == f"the private key in {path} is empty"


def test_endless_file() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("this system has no endless file")
    assert refusal(Path("/dev/zero")) == "the private key in /dev/zero is longer than 64 KiB, which no key is"


def test_name_that_no_file_can_have() -> None:
    assert refusal(Path("key\0.pem")) == "the private key in that file cannot be read: no file can have this name"


@pytest.mark.parametrize("name", [*(f"rsa1024-{form}" for form in FORMS), "ec-pkcs8", "ed25519-pkcs8"])
@pytest.mark.parametrize("text", [pem, body])
def test_key_wrapped_in_a_path_by_mistake(name: str, text: Callable[[str], str]) -> None:
    source = text(name)
    with pytest.raises(CredentialsError, match="the private key in that file cannot be read") as caught:
        load_private_key(Path(source))
    assert_shows_nothing_of(source, everything_shown_by(caught.value))


@given(source=st.one_of(st.text(), st.binary(), st.binary().map(lambda data: b"0" + data)))
def test_anything_else_is_refused(source: Any) -> None:
    with pytest.raises(CredentialsError, match="the private key is "):
        load_private_key(source)


@given(
    name=st.sampled_from(["rsa489-pkcs8", "ec-sec1", "ed25519-pkcs8", "rsa1024-pkcs1", "rsa1024-public"]),
    at=st.integers(0, 10_000),
    byte=st.integers(0, 255),
    cut=st.integers(0, 3),
)
def test_a_damaged_key_loads_or_is_refused(name: str, at: int, byte: int, cut: int) -> None:
    damaged = bytearray(der(name))
    damaged[at % len(damaged)] = byte
    source = bytes(damaged[: len(damaged) - cut])
    try:
        key = load_private_key(source)
    except CredentialsError as error:
        assert_shows_nothing_of(source, everything_shown_by(error))
    else:
        assert key.sign(b"payload")


# ------------------------------------------------------------------------------------------------ private keys


def test_repr_shows_size_and_fingerprint_only() -> None:
    key = load_private_key(pem("rsa1024-pkcs8"))
    assert repr(key) == f"PrivateKey(bits=1024, fingerprint='{fingerprint(1024)}')"
    assert repr(key.public_key) == f"PublicKey(bits=1024, fingerprint='{fingerprint(1024)}')"


@pytest.mark.parametrize("take_away", [copy.copy, copy.deepcopy, pickle.dumps])
def test_private_key_cannot_be_copied_or_pickled(take_away: Callable[[Any], Any]) -> None:
    key = load_private_key(pem("rsa1024-pkcs8"))
    for thing in (key, [key]) if take_away is not copy.copy else (key,):
        with pytest.raises(TypeError, match=r"^a PrivateKey cannot be pickled or copied"):
            take_away(thing)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_credentials_with_a_private_key_cannot_be_pickled(protocol: int) -> None:
    credentials = Credentials.load(API_KEY, pem("rsa1024-pkcs8"))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(credentials, protocol)


def test_signing_is_deterministic() -> None:
    key = load_private_key(pem("rsa1024-pkcs8"))
    assert key.sign(b"payload") == key.sign(b"payload") != key.sign(b"another")
    assert len(key.sign(b"")) == 128


def test_public_half() -> None:
    key = load_private_key(pem("rsa1024-pkcs8-empty"))
    assert key.public_key_pem() == key.public_key.pem == pem("rsa1024-public")


def test_generated_key_is_as_the_exchange_gives_it() -> None:
    text = generate_private_key(1024)
    assert text.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert bytes.fromhex("060960864801650304012a") in base64.b64decode("".join(text.split("\n")[1:-2]))  # AES-256-CBC
    key = load_private_key(text)
    assert key.format == "PKCS#8, encrypted under the empty passphrase, PEM"
    assert key.bits == 1024
    assert load_private_key(generate_private_key(1024)).fingerprint != key.fingerprint


def test_generated_key_has_2048_bits_unless_told_otherwise() -> None:
    assert load_private_key(generate_private_key()).bits == 2048


def test_generated_key_must_not_be_short() -> None:
    with pytest.raises(CredentialsError, match="1023 bits would be too short: at least 1024"):
        generate_private_key(1023)


# ------------------------------------------------------------------------------------------------- public keys


@pytest.mark.parametrize("name", ["rsa1024-public", "rsa1024-public-pkcs1"])
def test_public_key_from_pem(name: str) -> None:
    key = PublicKey.from_pem(textwrap.indent(pem(name), "    "))
    assert key.bits == 1024
    assert key.fingerprint == fingerprint(1024)
    assert key.pem == pem("rsa1024-public")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the public key is empty"),
        ("nonsense", "the public key is no key, neither as PEM nor as base64 nor as DER"),
        (body("rsa1024-public"), "the public key is not PEM text"),
        (pem("rsa1024-pkcs8"), "expected an RSA public key, got a private key"),
        (pem("rsa1024-pkcs8-empty"), "expected an RSA public key, got a private key"),
        (pem("rsa1024-pkcs1-secret"), "expected an RSA public key, got a private key"),
        (pem("certificate"), "expected an RSA public key, got a certificate"),
        (pem("ec-public"), "the public key cannot be used: it is not an RSA key"),
        (pem("rsa480-public"), "the public key has 480 bits: too short to sign with SHA-256, which takes 489"),
        (
            "-----BEGIN PUBLIC KEY-----\nMAYwAgUAAwA=\n-----END PUBLIC KEY-----",
            "the public key is damaged, or of a kind that cannot be used here",
        ),
    ],
)
def test_no_public_key(text: str, reason: str) -> None:
    with pytest.raises(CredentialsError, match=re.escape(reason)) as caught:
        PublicKey.from_pem(text)
    if len(text) > 100:
        assert_shows_nothing_of(text, everything_shown_by(caught.value))


@pytest.mark.parametrize("bits", [1024, 2048])
def test_signature_that_openssl_made(bits: int) -> None:
    key = PublicKey.from_pem(pem(f"rsa{bits}-public"))
    assert key.verify_setup(nonce=NONCE, timestamp=TIMESTAMP, signature=signature(bits))
    assert key.verify(f"{NONCE}{TIMESTAMP}".encode(), base64.b64decode(signature(bits)))


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": NONCE.upper()},
        {"nonce": ""},
        {"nonce": "\ud800"},
        {"timestamp": TIMESTAMP + 1},
        {"timestamp": 0},
        {"timestamp": 10**5000},
        {"signature": signature(2048)},
        {"signature": signature(1024)[:-1]},
        {"signature": signature(1024) + "\n"},
        {"signature": "*"},
        {"signature": "é"},
        {"signature": ""},
        {"signature": "AAAA"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_setup_that_does_not_verify(changed: dict[str, Any]) -> None:
    key = PublicKey.from_pem(pem("rsa1024-public"))
    setup: dict[str, Any] = {"nonce": NONCE, "timestamp": TIMESTAMP, "signature": signature(1024)}
    assert key.verify_setup(**setup)
    assert not key.verify_setup(**{**setup, **changed})


@given(nonce=st.text(), timestamp=st.integers(), received=st.text())
def test_verifying_never_raises(nonce: str, timestamp: int, received: str) -> None:
    key = PublicKey.from_pem(pem("rsa1024-public"))
    assert not key.verify_setup(nonce=nonce, timestamp=timestamp, signature=received)


@given(payload=st.binary(), another=st.binary())
def test_signature_fits_one_payload(payload: bytes, another: bytes) -> None:
    key = load_private_key(pem("rsa489-pkcs8"))
    signed = key.sign(payload)
    assert key.public_key.verify(payload, signed)
    assert key.public_key.verify(another, signed) == (payload == another)


# ------------------------------------------------------------------------------------------------- credentials


def test_credentials_show_nothing() -> None:
    credentials = Credentials.load(API_KEY, pem("rsa1024-pkcs8-secret"), "secret")
    assert credentials.api_key == API_KEY
    assert isinstance(credentials.signer, PrivateKey)
    assert repr(credentials) == "Credentials()"


def test_credentials_are_frozen() -> None:
    credentials: Any = Credentials(API_KEY, load_private_key(pem("rsa1024-pkcs8")))
    with pytest.raises(dataclasses.FrozenInstanceError):
        credentials.api_key = "another"


@pytest.mark.parametrize("source", [pem("rsa1024-pkcs8-empty").encode(), KEYS / "rsa1024-pkcs8-empty.pem"])
def test_credentials_load_whatever_a_key_can_be(source: Any) -> None:
    signer = Credentials.load(API_KEY, source).signer
    assert isinstance(signer, PrivateKey)
    assert signer.fingerprint == fingerprint(1024)


def test_credentials_with_a_bad_private_key() -> None:
    with pytest.raises(CredentialsError, match="a passphrase is needed"):
        Credentials.load(API_KEY, pem("rsa1024-pkcs8-secret"))


@pytest.mark.parametrize("api_key", ["a", "A.b_c~d-9", API_KEY, "..."])
def test_api_key_that_can_be_part_of_a_url(api_key: str) -> None:
    assert Credentials.load(api_key, pem("rsa1024-pkcs8")).api_key == api_key


@pytest.mark.parametrize(
    ("api_key", "reason"),
    [
        ("", "the API key is empty"),
        (f"{API_KEY}\n", "has whitespace in it"),
        (f" {API_KEY}", "has whitespace in it"),
        ("two words", "has whitespace in it"),
        ("\u00a0", "has whitespace in it"),
        (f"{API_KEY}/negotiate", "must be made of"),
        (f"{API_KEY}?", "must be made of"),
        (f"{API_KEY}#", "must be made of"),
        ("%2e", "must be made of"),
        ("clé-privée", "must be made of"),
        ("\udc80\udc80", "must be made of"),
        ("..", "must be made of"),
        (".", "must be made of"),
        (None, "must be a str, not NoneType"),
        (API_KEY.encode(), "must be a str, not bytes"),
    ],
)
def test_api_key_that_cannot(api_key: Any, reason: str) -> None:
    signer = load_private_key(pem("rsa1024-pkcs8"))
    with pytest.raises(CredentialsError, match=reason) as caught:
        Credentials(api_key, signer)
    assert API_KEY not in everything_shown_by(caught.value)


@pytest.mark.parametrize("signer", [pem("rsa1024-pkcs8"), None, lambda payload: payload])
def test_signer_that_cannot_sign(signer: Any) -> None:
    with pytest.raises(CredentialsError, match=r"cannot sign; Credentials\.load takes a key") as caught:
        Credentials(API_KEY, signer)
    if isinstance(signer, str):
        assert_shows_nothing_of(signer, everything_shown_by(caught.value))


# --------------------------------------------------------------------------------------------------- setup


@pytest.mark.parametrize("bits", [1024, 2048])
def test_setup_argument(bits: int) -> None:
    credentials = Credentials.load(API_KEY, pem(f"rsa{bits}-pkcs8-empty"))
    assert setup_argument(credentials, nonce=NONCE, timestamp=TIMESTAMP) == {
        "apiKey": API_KEY,
        "nonce": NONCE,
        "timestamp": TIMESTAMP,
        "signature": signature(bits),
    }


@given(nonce=st.uuids().map(str), timestamp=st.integers(0, 2**53))
def test_what_is_signed_verifies(nonce: str, timestamp: int) -> None:
    key = load_private_key(pem("rsa489-pkcs8"))
    setup = setup_argument(Credentials(API_KEY, key), nonce=nonce, timestamp=timestamp)
    assert key.public_key.verify_setup(nonce=nonce, timestamp=timestamp, signature=str(setup["signature"]))


class Elsewhere:
    """A signer that keeps its key elsewhere: gives `answer`, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.payloads: list[bytes] = []

    def sign(self, payload: bytes, /) -> Any:
        self.payloads.append(payload)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def test_signer_of_your_own() -> None:
    signer = Elsewhere(b"\x00\xffsigned")
    setup = setup_argument(Credentials(API_KEY, signer), nonce=NONCE, timestamp=TIMESTAMP)
    assert setup["signature"] == base64.b64encode(b"\x00\xffsigned").decode()
    assert signer.payloads == [f"{NONCE}{TIMESTAMP}".encode()]


def test_private_key_is_a_signer() -> None:
    signer: Signer = load_private_key(pem("rsa1024-pkcs8"))
    assert Credentials(API_KEY, signer).signer is signer


def test_signer_raises() -> None:
    fault = OSError("the token was pulled out")
    with pytest.raises(SigningFailed, match=r"^signing raised OSError$") as caught:
        setup_argument(Credentials(API_KEY, Elsewhere(fault)), nonce=NONCE, timestamp=TIMESTAMP)
    assert caught.value.__cause__ is fault
    assert not caught.value.may_retry


def test_interrupting_a_signer_is_no_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        setup_argument(Credentials(API_KEY, Elsewhere(KeyboardInterrupt())), nonce=NONCE, timestamp=TIMESTAMP)


@pytest.mark.parametrize("answer", [None, "c2lnbmF0dXJl", bytearray(b"x"), b""])
def test_signer_returns_no_signature(answer: Any) -> None:
    with pytest.raises(SigningFailed, match=r"^the signer returned (\w+ instead of bytes|an empty signature)$"):
        setup_argument(Credentials(API_KEY, Elsewhere(answer)), nonce=NONCE, timestamp=TIMESTAMP)


def test_importing_the_package_does_not_import_cryptography() -> None:
    program = "import sys, etorox_proto; sys.exit('cryptography' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_what_credentials_say_is_whole() -> None:
    with pytest.raises(CredentialsError) as caught:
        Credentials("a/b", load_private_key(generate_private_key()))
    assert str(caught.value) == "the API key must be made of A-Z a-z 0-9 . _ ~ - as it is part of a URL"
    with pytest.raises(
        CredentialsError, match=r" cannot be decrypted: the passphrase is wrong, or the key is damaged$"
    ):
        load_private_key(generate_private_key(), "wrong")
