"""`etorox stream`: market events, from the exchange or from the embedded one, until Ctrl-C.

A connection that ends for a reason that may pass is made again, with growing pauses; `--once` makes a single attempt.
What is missed meanwhile is lost, and a line that says so stands between the events. What is shown is the business of
`_watch`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import ssl
import sys
import time
import uuid
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from etorox_proto import (
    Credentials,
    ExchangeConfig,
    LocalProtocolError,
    SessionConfig,
    Subscription,
    generate_private_key,
    load_private_key,
)
from etorox_transports.cli._display import Display, JsonLines, PrettyLines
from etorox_transports.cli._host import SimulatorHost
from etorox_transports.cli._secrets import API_KEY, KEY, KEY_FILE, PASSPHRASE, read_credentials
from etorox_transports.cli._simulate import choose_instruments
from etorox_transports.cli._trust import trusting
from etorox_transports.cli._watch import ADAPTERS, Summary, Wish, watch

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]

_SESSION = SessionConfig()


def add_command(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add `stream`."""
    parser = commands.add_parser(
        "stream",
        help="show market events",
        description="Show market events until Ctrl-C: aligned lines on a terminal, one JSON object a line in a pipe. "
        "Without --host the embedded exchange is started in this process.",
        epilog=f"Environment: {API_KEY}, {KEY_FILE} or {KEY}, {PASSPHRASE}. Exit codes: 0 as asked, 2 usage, "
        "3 authentication, 4 network, 5 protocol.",
    )
    parser.add_argument("channels", nargs="*", default=["btcusd", "ethusd"], metavar="CHANNEL", help="instrument ids")
    parser.add_argument("--host", help="the exchange: host, host:port or URL; http:// for this machine only")
    parser.add_argument("--api-key", help=f"the API key; by default the variable {API_KEY}")
    parser.add_argument("--key-file", help=f"the private key; by default the variables {KEY_FILE} or {KEY}")
    parser.add_argument("--ca-file", help="trust this authority instead of the system's")
    parser.add_argument("--fields", type=_names, metavar="A,B", help="only these fields, as rows")
    parser.add_argument("--event", default="marketData", help="the event of the channels (default marketData)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, on a terminal too")
    parser.add_argument("--count", type=_count, metavar="N", help="end after N events")
    staying = parser.add_mutually_exclusive_group()
    staying.add_argument("--once", action="store_true", help="make a single attempt; do not connect again")
    staying.add_argument(
        "--rotate-after",
        type=_seconds,
        metavar="SECONDS",
        help="replace each connection when it is so old (default 23 hours, before the exchange cuts it)",
    )
    parser.add_argument(
        "--adapter", choices=ADAPTERS, default=ADAPTERS[0], help="which adapter to use (default %(default)s)"
    )
    parser.set_defaults(run=_stream)


def _names(text: str) -> list[str]:
    """Field names; the exchange wants them in alphanumeric order, which is no reason to trouble a person."""
    return sorted(name.strip() for name in text.split(","))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number from 1 upwards, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    seconds = math.nan
    with suppress(ValueError):
        seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds


def _stream(options: Namespace) -> int:
    # Refuses what can be refused before anything is opened.
    Subscription(options.channels, event=options.event, fields=options.fields)
    display: Display = JsonLines() if options.json or not sys.stdout.isatty() else PrettyLines()
    summary = Summary()
    try:
        with _exchange(options, display) as (config, credentials, context):
            wish = Wish(options.channels, options.event, options.fields, options.count)
            session = None if options.once else _session(options.rotate_after)
            watch(options.adapter, display, summary, wish, config, credentials, session=session, ssl_context=context)
    except KeyboardInterrupt:
        display.note(summary.text(interrupted=True))
        return 0
    display.note(summary.text(interrupted=False))
    return 0


def _session(rotate_after: float | None) -> SessionConfig:
    if rotate_after is None:
        return _SESSION
    return dataclasses.replace(_SESSION, rotate_after=rotate_after, rotate_spread=0.0)


@contextmanager
def _exchange(
    options: Namespace, display: Display
) -> Iterator[tuple[ExchangeConfig, Credentials, ssl.SSLContext | None]]:
    """Where to connect and as whom; without a host, the embedded exchange for as long as it is needed."""
    if options.host is not None:
        context = trusting(options.ca_file)
        try:
            config = ExchangeConfig(options.host)
        except LocalProtocolError as error:
            if options.host.startswith("http:"):
                raise LocalProtocolError("expected https:// in --host; http:// is for this machine only") from error
            raise
        yield config, read_credentials(options.api_key, options.key_file), context
        return
    if options.api_key or options.key_file or options.ca_file:
        raise LocalProtocolError(
            "expected --host with --api-key, --key-file or --ca-file; without it the embedded "
            "exchange is used, which has a key of its own"
        )
    instruments = choose_instruments(options.channels)
    pem, api_key = generate_private_key(), str(uuid.uuid4())
    key = load_private_key(pem)
    with SimulatorHost({api_key: key.public_key}, seed=int(time.time()), instruments=instruments) as host:
        host.run_in_thread()
        display.note(
            f"No --host: streaming made-up events from the embedded exchange on 127.0.0.1:{host.port}. Ctrl-C ends."
        )
        if unused := [name for name in (API_KEY, KEY_FILE, KEY) if name in os.environ]:
            display.note(f"{' and '.join(unused)} not used, for want of --host.")
        yield ExchangeConfig(f"http://127.0.0.1:{host.port}"), Credentials(api_key, key), None
