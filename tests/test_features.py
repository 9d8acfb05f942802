"""The table of features is true: what it names exists, what is not there yet does not, nothing official is left out."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import etorox_proto.signalr
import etorox_transports

PAGE = Path(__file__).parent.parent / "docs/reference/features.md"
ADAPTERS = [importlib.import_module(f"etorox_transports.{name}") for name in ("anyio", "blocking", "trio")]

# The public API of @microsoft/signalr 10 (and its MessagePack package) that a user of a connection meets.
TYPESCRIPT = """
AbortError EventSource HttpError JsonHubProtocol MessagePackHubProtocol Subject TimeoutError WebSocket
accessTokenFactory baseUrl bufferSize build configureLogging connectionId dispose headers httpClient invoke
keepAliveIntervalInMilliseconds logMessageContent logger nextRetryDelayInMilliseconds off on onclose onreconnected
onreconnecting send serverTimeoutInMilliseconds skipNegotiation start state stop stream subscribe timeout transport
withAutomaticReconnect withCredentials withHubProtocol withKeepAliveInterval withServerTimeout withStatefulReconnect
withUrl
"""
# The same of Microsoft.AspNetCore.SignalR.Client 10; DefaultTransferFormat belongs to connections below hubs.
DOTNET = """
AccessTokenProvider AddJsonProtocol AddMessagePackProtocol AddNewtonsoftJsonProtocol ApplicationMaxBufferSize Build
ClientCertificates CloseTimeout Closed ConfigureLogging ConnectionId Cookies Credentials DisposeAsync HandshakeTimeout
Headers HttpMessageHandlerFactory HubClientProxyAttribute HubServerProxyAttribute InvokeAsync InvokeCoreAsync
KeepAliveInterval NextRetryDelay On Proxy Reconnected Reconnecting Remove SendAsync SendCoreAsync ServerTimeout
SkipNegotiation StartAsync State StatefulReconnectBufferSize StopAsync StreamAsChannelAsync StreamAsync
TransportMaxBufferSize Transports Url UseDefaultCredentials UseStatefulReconnect WebSocketConfiguration WebSocketFactory
WithAutomaticReconnect WithKeepAliveInterval WithServerTimeout WithUrl
"""


class Row(NamedTuple):
    """One feature: the official cells, if it is one of clients, and ours."""

    feature: str
    typescript: str
    dotnet: str
    machine: str
    adapters: str


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or cells[0] == "feature" or set(line) <= set("|-"):
            continue
        assert len(cells) in {3, 5}, line
        found.append(Row(cells[0], *cells[1:]) if len(cells) == 5 else Row(cells[0], "", "", *cells[1:]))
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def source(thing: type) -> str:
    return inspect.getsource(thing) if thing.__module__.startswith("etorox_") else ""


def exists(name: str, module: ModuleType) -> bool:
    """Whether there is such a thing: `Thing`, `Thing.attribute`, or either with an argument in brackets."""
    path, _, argument = name.removesuffix(")").partition("(")
    thing: object = module
    for part in path.split("."):
        # What only instances have is set by the constructor of the class, or of one that it builds upon.
        builders = [
            each for each in getattr(thing, "__mro__", ()) if inspect.isclass(thing) and "__init__" in vars(each)
        ]
        if not hasattr(thing, part) and not any(re.search(rf"self\.{part}\b", source(each)) for each in builders):
            return False
        thing = getattr(thing, part, None)
    return not argument or (callable(thing) and argument in inspect.signature(thing).parameters)


def everywhere(name: str) -> bool:
    return exists(name, etorox_transports) or all(exists(name, adapter) for adapter in ADAPTERS)


IN_PROSE = {"Decimal", "http", "repr", "result_type"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.feature)
def test_what_it_names_exists_and_what_it_calls_missing_does_not(row: Row) -> None:
    for cell, is_ours in ((row.machine, False), (row.adapters, True)):
        verdict = re.match(r"(yes|no|not yet)(?=:|;|$)", cell)
        assert verdict is not None, cell
        for name in names(cell):
            if name in IN_PROSE:
                continue
            found = exists(name, etorox_proto.signalr) or (is_ours and everywhere(name))
            assert found == (verdict[1] != "not yet"), f"{name}: say how it is called, or that it is not there yet"


@pytest.mark.parametrize(("column", "official"), [("typescript", TYPESCRIPT), ("dotnet", DOTNET)])
def test_nothing_official_is_left_out(column: str, official: str) -> None:
    named = {name for row in rows() for name in names(getattr(row, column))}
    assert named - {"IAsyncEnumerable"} == set(official.split())


def test_names_that_are_not_there_would_be_found() -> None:
    """The judge itself: classes, attributes, fields and arguments, right and wrong."""
    for name in (
        "HubConnection",
        "HubConnection.close",
        "HubConfig.url",
        "HubConnection.close(wait)",
        "Retries.deadline",
    ):
        assert exists(name, etorox_proto.signalr)
    for name in ("Hubs", "HubConnection.open", "HubConfig.nothing", "HubConnection.close(patience)"):
        assert not exists(name, etorox_proto.signalr)
    assert everywhere("Hub.invoke(timeout)")
    assert not everywhere("run_in_thread"), "only the blocking adapter has it"
