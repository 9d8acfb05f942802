"""`etorox key check FILE`: what a key file is and whether it can sign, without showing it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from etorox_transports._text import printable
from etorox_transports.cli._display import new_console
from etorox_transports.cli._secrets import PASSPHRASE, read_key_file

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]


def add_command(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `key` with its one subcommand."""
    parser = commands.add_parser("key", help="look at private keys")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="say what a key file is and whether it can sign",
        description=f"Say what a key file is and whether it can sign, without showing it. A passphrase is taken from "
        f"the variable {PASSPHRASE} or asked for.",
    )
    check.add_argument("file", type=Path, help="the private key, in any form that the exchange gives")
    check.set_defaults(run=_check)


def _check(options: Namespace) -> int:
    key = read_key_file(options.file)
    key.sign(b"etorox key check")
    console = new_console()
    for name, value in (
        ("file", str(options.file)),
        ("format", key.format),
        ("size", f"RSA, {key.bits} bits"),
        ("public key", f"SHA-256 {key.fingerprint}"),
        ("can sign", "yes (RSASSA-PKCS1-v1_5 with SHA-256)"),
    ):
        console.print(f"{name:<11}", style="dim", end="")
        console.print(printable(value))
    return 0
