"""`etorox simulate`: the embedded exchange on a port, with a ready-made key and the command that connects to it."""

from __future__ import annotations

import datetime
import math
import os
import shlex
import signal
import ssl
import sys
import tempfile
import threading
import uuid
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from etorox_proto import LocalProtocolError, PrivateKey, generate_private_key
from etorox_proto.simulator import INSTRUMENTS, Instrument
from etorox_transports.cli._chaos import Chaos
from etorox_transports.cli._display import new_console
from etorox_transports.cli._host import SimulatorHost
from etorox_transports.cli._secrets import read_key_file

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command", "choose_instruments", "event_rate", "fault_rate"]

# How many faults a minute `--chaos` makes if it is not told.
_FAULTS = 6.0


def add_command(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `simulate`."""
    parser = commands.add_parser(
        "simulate",
        help="serve the embedded exchange on this machine",
        description="Serve the embedded exchange on this machine until Ctrl-C. It makes a key file and prints the "
        "command that connects to it.",
    )
    parser.add_argument("--port", type=_port, default=0, help="TCP port; by default a free one")
    parser.add_argument(
        "--seed", type=_seed, default=0, help="of the market: the same seed trades the same (default 0)"
    )
    parser.add_argument(
        "--rate",
        type=event_rate,
        default=10.0,
        help="public events a second, or `max` for as many as the slowest client reads (default 10)",
        metavar="EVENTS",
    )
    parser.add_argument("--instruments", nargs="+", metavar="ID", help="which to trade; by default all it knows")
    parser.add_argument(
        "--allow-origin",
        nargs="+",
        metavar="ORIGIN",
        help="let web pages from there use it, such as http://localhost:8080 (CORS), and no others",
    )
    parser.add_argument("--tls", action="store_true", help="serve TLS, under an authority made for this run")
    parser.add_argument(
        "--chaos",
        type=fault_rate,
        nargs="?",
        const=_FAULTS,
        metavar="RATE",
        help=f"let things go wrong for the clients, so many times a minute (default {_FAULTS:g}): resets, black holes, "
        "half-closed and slow streams, refusals, sudden goodbyes",
    )
    parser.add_argument(
        "--key-file",
        metavar="FILE",
        help="the customer's private key, made if there is none; with it and --port a client finds its account again "
        "after a restart (default: a new key for this run)",
    )
    parser.set_defaults(run=_simulate)


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _program() -> list[str]:
    """How this command was called, so that the one it prints can be pasted into any other shell."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return [sys.executable, "-m", "etorox_transports.cli"]
    return [str(called.resolve())] if called.parent != Path() else [called.name]


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def event_rate(text: str) -> float:
    """Read a rate: a positive number, or `max`."""
    if text == "max":
        return math.inf
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ArgumentTypeError(f"expected a positive number or `max`, got {text!r}")
    return rate


def fault_rate(text: str) -> float:
    """Read how many faults there are to be a minute."""
    rate = math.nan
    with suppress(ValueError):
        rate = float(text)
    if not 0 < rate < math.inf:
        raise ArgumentTypeError(f"expected a positive number of faults a minute, got {text!r}")
    return rate


def choose_instruments(ids: list[str] | None) -> list[Instrument]:
    """The simulator's instruments of these ids, all for None.

    Raises:
        LocalProtocolError: it has none of that id.
    """
    known = {instrument.id: instrument for instrument in INSTRUMENTS}
    unknown = [name for name in ids or () if name not in known]
    if unknown:
        raise LocalProtocolError(
            f"expected instruments that the embedded exchange trades ({', '.join(known)}), got {', '.join(unknown)}"
        )
    return list(INSTRUMENTS) if ids is None else [known[name] for name in dict.fromkeys(ids)]


def _simulate(options: Namespace) -> int:
    console = new_console()
    instruments = choose_instruments(options.instruments)
    with _termination_as_interrupt(), tempfile.TemporaryDirectory(prefix="etorox-simulator-") as folder:
        key_file = Path(folder, "private-key.pem") if options.key_file is None else Path(options.key_file)
        key = _customers_key(key_file)
        # The same key is the same customer, so that a client finds its account again after a restart.
        api_key = str(uuid.uuid5(uuid.NAMESPACE_OID, key.fingerprint))
        context: ssl.SSLContext | None = None
        trust: list[str] = []
        if options.tls:
            context, authority = _make_tls(Path(folder))
            trust = ["--ca-file", str(authority)]
        try:
            host = SimulatorHost(
                {api_key: key.public_key},
                address=("127.0.0.1", options.port),
                seed=options.seed,
                rate=options.rate,
                instruments=instruments,
                ssl_context=context,
                chaos=None if options.chaos is None else _chaos(options.chaos, options.seed),
                allowed_origins=options.allow_origin,
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise LocalProtocolError(f"expected --port to name a port that is free, {options.port}: {reason}") from None
        with host:
            scheme = "https" if options.tls else "http"
            url = f"{scheme}://127.0.0.1:{host.port}"
            channels = [instrument.id for instrument in instruments[:2]]
            details = ["--host", url, "--api-key", api_key, "--key-file", str(key_file), *trust]
            command = shlex.join([*_program(), "stream", *channels, *details])
            try:
                console.print(f"The embedded exchange is at {url}; seed {options.seed}, Ctrl-C ends it.")
                made = "" if options.key_file is not None else " that was made for this run"
                console.print(f"Connect with the key file{made}:\n")
                console.print(f"  {command}\n", style="bold")
                with _stopped_by_signals(host):
                    host.run()
            except KeyboardInterrupt:
                pass
            events = "1 market event" if host.events == 1 else f"{host.events:,} market events"
            console.print(f"\nEnded after {events}.")
    return 0


def _chaos(rate: float, seed: int) -> Chaos:
    console = new_console(stderr=True)

    def say(text: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        console.print(f"{now:%H:%M:%S}.{now.microsecond // 1000:03}  chaos: {text}", style="yellow")

    return Chaos(rate=rate, seed=seed, say=say)


@contextmanager
def _stopped_by_signals(host: SimulatorHost) -> Iterator[None]:
    """Ctrl-C and SIGTERM let the host end its turn: between accepting a socket and keeping it, it would be lost.

    A second one does not wait for that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not what is ignored, as Ctrl-C is in the background of a script.
    interrupts = [
        each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is signal.default_int_handler
    ]

    def handle_with(handler: Callable[[int, FrameType | None], object]) -> None:
        for each in interrupts:
            signal.signal(each, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        handle_with(signal.default_int_handler)
        host.stop()

    handle_with(stop)
    try:
        yield
    finally:
        handle_with(signal.default_int_handler)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """A container that is stopped must leave no key behind either; signals are the main thread's business."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _customers_key(path: Path) -> PrivateKey:
    """The key in that file, which is made if there is none."""
    try:
        _write_private(path, generate_private_key())
    except FileExistsError:
        pass
    except OSError as error:
        raise LocalProtocolError(
            f"expected --key-file to name a file that can be made: {path}: {error.strerror}"
        ) from None
    return read_key_file(path)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _make_tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS under an authority that exists for this run only; its certificate is written to a file."""
    from etorox_transports._authority import Authority, new_server_context  # noqa: PLC0415 - heavy, and only for --tls

    authority, authority_file = Authority("etorox simulator authority"), folder / "authority.pem"
    authority_file.write_bytes(authority.certificate)
    context = new_server_context(authority.issue(["localhost", "127.0.0.1"]))
    return context, authority_file
