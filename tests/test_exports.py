"""The public surface, name by name: a change here is a change for users, and is written down in the change log."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

import etorox_proto
import etorox_proto.signalr
import etorox_proto.simulator
import etorox_proto.testing
import etorox_proto.testing.laws
import etorox_proto.testing.strategies
import etorox_transports
import etorox_transports.anyio
import etorox_transports.blocking
import etorox_transports.conformance
import etorox_transports.probe
import etorox_transports.trio
from etorox_proto import SignalRError

EXPORTS = {
    "etorox_proto": [
        "CallError",
        "CallLost",
        "CheckClock",
        "Closed",
        "ConnectionClosed",
        "ConnectionFailed",
        "ConnectionLost",
        "Credentials",
        "CredentialsError",
        "Dial",
        "EventReceived",
        "EventsByTurns",
        "EventsReceived",
        "ExchangeConfig",
        "ExchangeConnection",
        "ExchangeEvent",
        "ExchangeState",
        "Gap",
        "HandoverUnproven",
        "HandshakeRefused",
        "LimitExceeded",
        "Limits",
        "LocalProtocolError",
        "MarketEvent",
        "NegotiationFailed",
        "NewConnection",
        "OrderCanceled",
        "OrderCompleted",
        "OrderCreated",
        "OrderUpdated",
        "PrivateKey",
        "PublicKey",
        "Ready",
        "Reconnecting",
        "RemoteProtocolError",
        "Row",
        "ServerClosed",
        "Session",
        "SessionAction",
        "SessionConfig",
        "SessionEvent",
        "SessionState",
        "SetupRefused",
        "SignalRError",
        "Signer",
        "SigningFailed",
        "Stale",
        "StartAttempt",
        "Subscription",
        "SubscriptionEnded",
        "SubscriptionFailed",
        "TimedOut",
        "TradeCompleted",
        "UnknownEvent",
        "UpgradeFailed",
        "encode_event",
        "event_decoder",
        "event_fields",
        "generate_private_key",
        "load_private_key",
        "row_decoder",
        "row_type",
        "setup_argument",
    ],
    "etorox_proto.signalr": [
        "AccessTokenFailed",
        "Ack",
        "AvailableTransport",
        "Call",
        "CallCancelled",
        "CallError",
        "CallLost",
        "CancelInvocation",
        "CancelReceived",
        "ClientRequest",
        "Close",
        "Closed",
        "Completed",
        "Completion",
        "Connected",
        "ConnectionClosed",
        "ConnectionFailed",
        "ConnectionLost",
        "ConnectionTokens",
        "DEFAULT_DELAYS",
        "Detached",
        "Dial",
        "Endpoint",
        "HandshakeRefused",
        "HandshakeRequest",
        "HubConfig",
        "HubConnection",
        "HubError",
        "HubEvent",
        "HubMessage",
        "Invocation",
        "InvocationReceived",
        "ItemReader",
        "ItemReceived",
        "ItemsByTurns",
        "ItemsReceived",
        "JsonCodec",
        "LengthPrefixReader",
        "LimitExceeded",
        "Limits",
        "LocalProtocolError",
        "MessagePackCodec",
        "NegotiateResponse",
        "NegotiationFailed",
        "Ping",
        "RecordReader",
        "Redirect",
        "RemoteProtocolError",
        "Resumed",
        "Retries",
        "Sequence",
        "ServerClosed",
        "ServerConfig",
        "ServerConnection",
        "ServerEvent",
        "SignalRError",
        "State",
        "StreamInvocation",
        "StreamItem",
        "TRANSITIONS",
        "TimedOut",
        "UnexpectedResult",
        "UnknownMessage",
        "UpgradeFailed",
        "Upload",
        "UploadEnded",
        "UploadItemReceived",
        "check_seconds",
        "encode_handshake_request",
        "encode_handshake_response",
        "encode_json",
        "encode_length",
        "length_prefixed",
        "parse_endpoint",
        "parse_handshake_request",
        "parse_handshake_response",
        "parse_negotiate_response",
    ],
    "etorox_proto.simulator": [
        "BookSnapshot",
        "INSTRUMENTS",
        "Instrument",
        "PRIVATE_EVENT",
        "PUBLIC_EVENT",
        "Published",
        "SimulatedMarket",
        "Simulator",
        "SimulatorConnection",
    ],
    "etorox_proto.testing": [
        "Chunking",
        "ClientMachine",
        "DialFault",
        "Driver",
        "ExchangeCounts",
        "ExchangeRules",
        "FakeExchange",
        "FakeExchangeConnection",
        "FakeSigner",
        "Fault",
        "FaultKind",
        "Host",
        "HostConnection",
        "HowToStop",
        "HubHost",
        "Item",
        "Link",
        "Listener",
        "ManualClock",
        "RandomFaults",
        "SessionDriver",
        "SetupAnswer",
        "Side",
        "Stream",
        "TimeSource",
        "Toward",
        "VirtualDialFailed",
        "VirtualNetwork",
        "accept_websocket",
        "bytewise",
        "http_reply",
        "pieces",
        "websocket_frame",
        "whole",
    ],
    "etorox_proto.testing.laws": [
        "Again",
        "Application",
        "Ask",
        "AtDeadline",
        "Clock",
        "End",
        "Flush",
        "Hear",
        "Law",
        "LawBroken",
        "Machine",
        "Open",
        "Step",
        "Subject",
        "Trial",
        "Wait",
        "check_history",
        "check_machine",
        "histories",
    ],
    "etorox_proto.testing.strategies": [
        "CODECS",
        "CancelOrder",
        "Encoding",
        "HandshakeExchange",
        "MarketKind",
        "PlaceOrder",
        "RecordStream",
        "bad_http_replies",
        "boundary_messages",
        "broken_frames",
        "chunkings",
        "clocks",
        "commands",
        "control_frames",
        "damaged",
        "fault_schedules",
        "frame_sequences",
        "handshake_exchanges",
        "http_replies",
        "hub_messages",
        "instruments",
        "malformed_records",
        "market_events",
        "moments",
        "negotiate_bodies",
        "negotiate_responses",
        "order_flows",
        "payloads",
        "plain_values",
        "programs",
        "record_streams",
        "rows",
        "selectors",
        "websocket_messages",
    ],
    "etorox_transports": [
        "DialFailed",
        "FeedOverflow",
        "LatestBy",
        "NewHub",
        "Overload",
        "ServeLimits",
        "UploadFailed",
        "new_exchange_connection",
        "new_session",
        "new_tls_context",
    ],
    "etorox_transports.anyio": [
        "AnyioStream",
        "AsyncByteStream",
        "AsyncHandler",
        "AsyncOpener",
        "AsyncTimeSource",
        "Connection",
        "Events",
        "Exchange",
        "Feed",
        "Hub",
        "IncomingCall",
        "Server",
        "connect",
        "connect_hub",
        "open_stream",
        "serve",
    ],
    "etorox_transports.blocking": [
        "ByteStream",
        "Connection",
        "ConnectionEvent",
        "Events",
        "Exchange",
        "Feed",
        "Handler",
        "Hub",
        "Opener",
        "OtherFeedFull",
        "Server",
        "SocketStream",
        "ThreadedEvents",
        "connect",
        "connect_hub",
        "open_socket",
        "run_in_thread",
        "serve",
    ],
    "etorox_transports.trio": [
        "AsyncByteStream",
        "AsyncHandler",
        "AsyncOpener",
        "AsyncTimeSource",
        "Connection",
        "Events",
        "Exchange",
        "Feed",
        "Hub",
        "IncomingCall",
        "Server",
        "connect",
        "connect_hub",
        "open_stream",
        "serve",
    ],
    "etorox_transports.conformance": [
        "Attempt",
        "BlockingConnection",
        "CASES",
        "Case",
        "Connection",
        "Report",
        "Result",
        "Transport",
        "VirtualEventLoop",
        "run",
        "run_case",
    ],
    "etorox_transports.probe": [
        "Finding",
        "Outcome",
        "SERVER_CASES",
        "ServerCase",
        "ServerReport",
        "ServerResult",
        "as_html",
        "probe",
    ],
}
# Adapters offer the same verbs, each in its own way.
ADAPTERS = ("etorox_transports.anyio", "etorox_transports.blocking", "etorox_transports.trio")
VERBS = {
    *("Connection", "Events", "Exchange", "Feed", "Hub", "Server"),
    *("connect", "connect_hub", "open_stream", "serve"),
}
# What annotations name and the package imports only when a key is used.
IMPORTED_LATE = {"RSAPrivateKey": RSAPrivateKey, "RSAPublicKey": RSAPublicKey}
NAMES = [(module, name) for module, names in EXPORTS.items() for name in names]

every_name = pytest.mark.parametrize(("module", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])


def exported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def is_ours(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("etorox_")


def public_functions(thing: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions that a user of an exported thing can call, inherited ones and constructors included."""
    if inspect.isfunction(thing):
        yield thing.__name__, thing
    elif inspect.isclass(thing):
        for each in thing.__mro__:
            for name, member in vars(each).items():
                function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                is_public = not name.startswith("_") or name == "__init__"
                if inspect.isfunction(function) and is_public and is_ours(function) and is_ours(each):
                    yield f"{each.__name__}.{name}", function


@pytest.mark.parametrize("module", EXPORTS)
def test_a_module_exports_what_it_did(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert sorted(names) == EXPORTS[module]
    assert len(names) == len(set(names))


@every_name
def test_what_is_exported_exists_and_says_what_it_is(module: str, name: str) -> None:
    thing = exported(module, name)
    if (inspect.isclass(thing) or inspect.isfunction(thing)) and is_ours(thing):
        assert inspect.getdoc(thing)
        assert "__doc__" not in vars(thing) or vars(thing)["__doc__"], "the docstring is its own, not inherited"


@every_name
def test_every_public_function_is_documented(module: str, name: str) -> None:
    for where, function in public_functions(exported(module, name)):
        assert function.__doc__ or where.endswith("__init__"), where


@every_name
def test_every_public_function_is_annotated(module: str, name: str) -> None:
    for where, function in public_functions(exported(module, name)):
        if is_generated(function):
            continue
        hints = typing.get_type_hints(function, localns=IMPORTED_LATE)
        parameters = [each for each in inspect.signature(function).parameters if each not in {"self", "cls"}]
        assert {*parameters, "return"} <= hints.keys(), where


def is_generated(function: Callable[..., Any]) -> bool:
    """Whether a dataclass or a protocol made it."""
    return function.__code__.co_filename.startswith("<") or function.__qualname__.startswith("_no_init")


@every_name
def test_every_attribute_is_annotated_with_something_that_exists(module: str, name: str) -> None:
    thing = exported(module, name)
    if inspect.isclass(thing) and is_ours(thing):
        typing.get_type_hints(thing)


def test_every_error_can_be_caught_by_a_public_name() -> None:
    for package in (etorox_proto, etorox_transports):
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".cli" not in each.name:
                importlib.import_module(each.name)
    public = {exported(*pair) for pair in NAMES if inspect.isclass(exported(*pair))}
    waiting, found = [SignalRError], set()
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        found.add(error)
    assert {error for error in found if is_ours(error)} <= public


def test_what_two_modules_export_under_one_name_is_one_thing() -> None:
    by_name: dict[str, set[int]] = {}
    for module, name in NAMES:
        if module in ADAPTERS and name in VERBS:
            continue
        by_name.setdefault(name, set()).add(id(exported(module, name)))
    assert all(len(things) == 1 for things in by_name.values())
