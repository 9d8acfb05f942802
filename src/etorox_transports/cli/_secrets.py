"""Where the command takes credentials from: files, environment variables, a prompt; never the command line.

Source of the names: `docs/howto/keys.md`.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from etorox_proto import Credentials, CredentialsError, PrivateKey, load_private_key

__all__ = ["API_KEY", "KEY", "KEY_FILE", "PASSPHRASE", "read_credentials", "read_key_file"]

API_KEY = "ETOROX_API_KEY"
KEY = "ETOROX_PRIVATE_KEY"
KEY_FILE = "ETOROX_KEY_FILE"
PASSPHRASE = "ETOROX_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable


def read_credentials(api_key: str | None, key_file: str | None) -> Credentials:
    """The credentials that options and environment name.

    Args:
        api_key: the option's value; else the variable `ETOROX_API_KEY`.
        key_file: the option's value; else the variables `ETOROX_KEY_FILE` and `ETOROX_PRIVATE_KEY`.

    Raises:
        CredentialsError: something is missing or cannot be used.
    """
    api_key = api_key or os.environ.get(API_KEY)
    if not api_key:
        raise CredentialsError(f"expected an API key: use --api-key or set {API_KEY}")
    key_file = key_file or os.environ.get(KEY_FILE)
    if key_file:
        return Credentials(api_key, read_key_file(Path(key_file)))
    text = os.environ.get(KEY)
    if not text:
        raise CredentialsError(f"expected a private key: use --key-file, or set {KEY_FILE} or {KEY}")
    return Credentials(api_key, _load(text))


def read_key_file(path: Path) -> PrivateKey:
    """The private key in a file; asks for its passphrase if it needs one and a person is there.

    Raises:
        CredentialsError: it cannot be read or is no usable key.
    """
    return _load(path)


def _load(source: str | Path) -> PrivateKey:
    passphrase = os.environ.get(PASSPHRASE)
    try:
        return load_private_key(source, passphrase)
    except CredentialsError as error:
        reason = str(error)
        # By their ends: the name of a file stands before.
        if passphrase and reason.endswith("the passphrase is wrong, or the key is damaged"):
            raise CredentialsError(f"{reason}; it came from the variable {PASSPHRASE}") from None
        if not reason.endswith("a passphrase is needed"):
            raise
        if not sys.stdin.isatty():
            raise CredentialsError(f"{reason}; put it into the variable {PASSPHRASE}") from None
    try:
        passphrase = getpass.getpass("Passphrase of the private key: ")
    except EOFError:
        raise CredentialsError(f"{reason}, and none was given") from None
    return load_private_key(source, passphrase)
