"""Web pages of other origins: which may use the hub, what their browser is told, and what the others get."""

from __future__ import annotations

from typing import Any

import h11
import pytest

from etorox_proto.signalr import Connected, LocalProtocolError, ServerConfig, ServerConnection
from machines import frame, server, take

PAGE = "https://app.example.com"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
HANDSHAKE = frame(b'{"protocol":"json","version":1}\x1e', masked=True)


def ask(machine: ServerConnection, method: str, target: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Send a request; the status of the answer and its headers, a name that comes twice joined as HTTP has it."""
    client = h11.Connection(h11.CLIENT)
    fields = [("Host", "hub.example.com"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    machine.receive_data(client.send(h11.Request(method=method, target=target, headers=fields)) or b"", 0.0)
    client.receive_data(machine.data_to_send())
    answer = client.next_event()
    assert isinstance(answer, h11.Response | h11.InformationalResponse)
    found: dict[str, str] = {}
    for name, value in answer.headers:
        found[name.decode()] = ", ".join([*filter(None, [found.get(name.decode())]), value.decode()])
    return answer.status_code, found


def cors(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


def test_a_page_of_an_allowed_origin_negotiates() -> None:
    machine = server(allowed_origins=["http://localhost:8080", PAGE])
    status, headers = ask(
        machine,
        "OPTIONS",
        "/hub/negotiate?negotiateVersion=1",
        Origin=PAGE,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,x-requested-with",
    )
    assert status == 200
    assert cors(headers) == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "authorization,x-requested-with",
    }
    status, headers = ask(machine, "POST", "/hub/negotiate?negotiateVersion=1", Origin=PAGE, Content_Length="0")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["vary"] == "Origin"
    assert cors(headers) == {"access-control-allow-origin": PAGE, "access-control-allow-credentials": "true"}


def test_it_reads_refusals_too() -> None:
    status, headers = ask(server(allowed_origins=[PAGE]), "GET", "/hub", Origin=PAGE)
    assert status == 404
    assert headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("origin", [PAGE, None])
def test_an_allowed_page_and_a_program_open_a_websocket(origin: str | None) -> None:
    machine = server(allowed_origins=[PAGE])
    status, _ = ask(machine, "GET", "/hub", **UPGRADE, **({} if origin is None else {"Origin": origin}))
    machine.receive_data(HANDSHAKE, 0.0)
    assert status == 101
    assert [type(event) for event in take(machine)] == [Connected]


@pytest.mark.parametrize("allowed", [[PAGE], []])
@pytest.mark.parametrize("origin", ["https://evil.example.com", f"{PAGE}:8443", "http://app.example.com", "null"])
@pytest.mark.parametrize(
    ("method", "target", "extra"),
    [
        ("OPTIONS", "/hub/negotiate", {"Access_Control_Request_Method": "POST"}),
        ("POST", "/hub/negotiate", {"Content_Length": "0"}),
        ("GET", "/hub", UPGRADE),
    ],
)
def test_any_other_page_is_refused(
    allowed: list[str], origin: str, method: str, target: str, extra: dict[str, str]
) -> None:
    machine = server(allowed_origins=allowed)
    status, headers = ask(machine, method, target, Origin=origin, **extra)
    assert status == 403
    assert not cors(headers)


def test_what_one_page_was_told_does_not_reach_the_next_request() -> None:
    machine = server(allowed_origins=[PAGE])
    assert cors(ask(machine, "POST", "/hub/negotiate", Origin=PAGE, Content_Length="0")[1])
    status, headers = ask(machine, "POST", "/hub/negotiate", Content_Length="0")
    assert status == 200
    assert not cors(headers)


def test_without_a_list_origins_are_not_looked_at() -> None:
    status, headers = ask(server(), "POST", "/hub/negotiate", Origin=PAGE, Content_Length="0")
    assert status == 200
    assert not cors(headers)
    status, _ = ask(server(), "OPTIONS", "/hub/negotiate", Origin=PAGE, Access_Control_Request_Method="POST")
    assert status == 405


@pytest.mark.parametrize(
    "origins",
    [
        PAGE,
        ["*"],
        ["null"],
        [""],
        ["app.example.com"],
        [f"{PAGE}/"],
        [f"{PAGE}/page"],
        [f"{PAGE}:443"],
        ["http://localhost:80"],
        ["https://App.example.com"],
    ],
)
def test_what_no_browser_would_send_is_refused(origins: Any) -> None:
    with pytest.raises(LocalProtocolError, match="allowed_origins"):
        ServerConfig(allowed_origins=origins)


@pytest.mark.parametrize("origin", ["http://localhost:8080", "http://[::1]:8443", "http://h:443", "app://bundle"])
def test_what_a_browser_sends_is_taken(origin: str) -> None:
    assert ServerConfig(allowed_origins=[origin]).allowed_origins == {origin}
