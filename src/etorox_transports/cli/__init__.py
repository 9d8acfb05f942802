"""The `etorox` command: `stream`, `simulate`, `probe`, `key check`. Needs the extra `cli`.

Exit codes: 0 it ended as asked, 1 its output could not be written, 2 wrong usage (an unusable key file too), 3
authentication refused, 4 network, 5 the server broke the protocol or refused what was asked. Messages go to standard
error, name the cause and the remedy, and are never a traceback; events go to standard output. Secrets are read from
files, environment variables or a prompt.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata

from etorox_proto import (
    ConnectionLost,
    LocalProtocolError,
    NegotiationFailed,
    ServerClosed,
    SetupRefused,
    SignalRError,
    SigningFailed,
    TimedOut,
    UpgradeFailed,
)
from etorox_transports._errors import DialFailed
from etorox_transports._text import printable

__all__ = ["main"]

OUTPUT, USAGE, AUTHENTICATION, NETWORK, PROTOCOL = 1, 2, 3, 4, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; by default those of the process.

    Returns:
        The exit code.
    """
    try:
        import rich as _rich  # noqa: F401, PLC0415 - only to say early and clearly that the extra is missing
    except ImportError:
        print("etorox: the command needs the extra `cli`: pip install 'etorox-proto[cli]'", file=sys.stderr)
        return USAGE
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SignalRError as error:
        print(f"etorox: {printable(str(error))}", file=sys.stderr)
        return exit_code(error)
    except OSError as error:
        # Whatever a connection meets comes as a SignalRError.
        print(f"etorox: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT
    return code


def exit_code(error: SignalRError) -> int:
    """Which exit code tells this error."""
    match error:
        case LocalProtocolError():
            return USAGE
        case SetupRefused() | SigningFailed():
            return AUTHENTICATION
        case NegotiationFailed(status=401 | 403) | UpgradeFailed(status=401 | 403):
            return AUTHENTICATION
        case DialFailed() | ConnectionLost() | TimedOut() | ServerClosed():
            return NETWORK
        case _:
            return PROTOCOL


def _parser() -> argparse.ArgumentParser:
    from etorox_transports.cli import _key, _probe, _simulate, _stream  # noqa: PLC0415 - they need the extra

    parser = argparse.ArgumentParser(
        prog="etorox", description="Typed market events of the eToroX streaming API, and an exchange to try it on."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('etorox-proto')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _stream.add_command(commands)
    _simulate.add_command(commands)
    _probe.add_command(commands)
    _key.add_command(commands)
    return parser
