"""Who gets in: what a server's application is asked before there is a connection, and how clients hear the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etorox_proto.signalr import (
    ClientRequest,
    Closed,
    Completed,
    Connected,
    ConnectionTokens,
    Dial,
    LocalProtocolError,
    NegotiationFailed,
    Redirect,
    ServerConnection,
    State,
    UpgradeFailed,
)
from machines import RawPeer, bytewise, http, hub, joined, names, obliging, server, take, whole
from peers import ScriptedHub

TOKEN = "s3cret"


def needs_token(request: ClientRequest) -> int | None:
    """The application of most of these tests."""
    if request.access_token is None:
        return 401
    return None if request.access_token == TOKEN else 403


def post(path: str = "/hub/negotiate?negotiateVersion=1", *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: h", "Content-Length: 0", *headers, "", ""]).encode()


def upgrade(path: str = "/hub", *headers: str) -> bytes:
    lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: h", *lines, key, *headers, "", ""]).encode()


def statuses(answers: bytes) -> list[int]:
    return [int(part.partition(b" ")[0]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def answers_to(machine: ServerConnection, data: bytes) -> list[int]:
    machine.receive_data(data, 0.0)
    return statuses(machine.data_to_send())


# --------------------------------------------------------------------------------------------------- authorize


@pytest.mark.parametrize("in_query", [False, True], ids=["in the header", "in the query"])
@pytest.mark.parametrize("skip", [False, True], ids=["without negotiation", "negotiated"])
@pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
def test_a_client_with_the_right_token_gets_in(cut: Any, skip: bool, in_query: bool) -> None:
    client = hub(access_token=TOKEN, access_token_in_query=in_query, skip_negotiation=skip)
    pair = joined(client, answer=obliging, chunking=cut, authorize=needs_token)
    assert client.state is State.CONNECTED
    call = client.invoke("echo", [1], now=0.0)
    pair.drive()
    assert [event.result for event in pair.events if isinstance(event, Completed) and event.call is call] == [[1]]
    request = pair.partner.request
    assert request is not None
    assert request.access_token == TOKEN
    assert request.header("AUTHORIZATION") == (None if in_query else f"Bearer {TOKEN}")
    assert request.header("x-requested-with") == "XMLHttpRequest"
    assert (pair.partner.path, pair.partner.query) == (request.path, request.query)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 403)])
@pytest.mark.parametrize("skip", [False, True])
def test_a_client_without_it_is_told_so(skip: bool, token: str | None, status: int) -> None:
    pair = joined(hub(access_token=token, skip_negotiation=skip), authorize=needs_token)
    error = pair.events[-1].error
    assert isinstance(error, UpgradeFailed if skip else NegotiationFailed)
    assert (error.status, error.may_retry) == (status, False)
    assert not any(isinstance(event, Connected) for event in pair.server_events)


def test_a_refusal_is_an_answer_like_others() -> None:
    """The stream goes on; a 401 says how to ask again (RFC 9110 section 15.5.2); what was promised stays promised."""
    machine = server(authorize=needs_token)
    machine.receive_data(post(), 0.0)
    head = machine.data_to_send()
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nWWW-Authenticate: Bearer\r\n" in head
    bearer = f"Authorization: bearer  {TOKEN}"
    machine.receive_data(post("/hub/negotiate?negotiateVersion=1", bearer), 0.0)
    answer = machine.data_to_send()
    token = json.loads(answer.partition(b"\r\n\r\n")[2])["connectionToken"]
    assert answers_to(machine, upgrade(f"/hub?id={token}")) == [401]
    assert answers_to(machine, upgrade(f"/hub?id={token}", "Authorization: Basic dTpw")) == [401]
    assert answers_to(machine, upgrade(f"/hub?id={token}&access_token=wrong")) == [403]
    assert (machine.request, machine.path, machine.query) == (None, None, [])
    assert answers_to(machine, upgrade(f"/hub?id={token}&Access_Token={TOKEN}")) == [101]
    assert (machine.path, machine.query) == ("/hub", [("id", token), ("Access_Token", TOKEN)])


def test_it_is_asked_about_what_is_served_and_nothing_else() -> None:
    asked: list[ClientRequest] = []

    def authorize(request: ClientRequest) -> int:
        asked.append(request)
        return 429

    machine = server(authorize=authorize, serves=lambda path: path == "/hub")
    elsewhere = post("/other/negotiate") + upgrade("/other") + b"GET /hub HTTP/1.1\r\nHost: h\r\n\r\n"
    assert answers_to(machine, elsewhere) == [404] * 3
    assert answers_to(machine, post().replace(b"POST", b"GET")) == [405]
    assert not asked
    assert answers_to(machine, post("/hub/negotiate?a=1&a=%20", "X-A: 1", "X-A: 2") + upgrade("/hub?b")) == [429] * 2
    one, two = asked
    assert (one.path, one.query, one.negotiates) == ("/hub", [("a", "1"), ("a", " ")], True)
    assert [pair for pair in one.headers if pair[0] == "x-a"] == [("x-a", "1"), ("x-a", "2")]
    assert one.header("X-A") == "1"
    assert (two.path, two.query, two.negotiates) == ("/hub", [("b", "")], False)


def raising(_about: Any) -> Any:
    raise KeyError(TOKEN)


@pytest.mark.parametrize("request_", [post(), upgrade()], ids=["negotiate", "upgrade"])
@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"authorize": raising}, "it raised KeyError"),
        ({"serves": raising}, "it raised KeyError"),
        ({"authorize": lambda _: True}, "a status from 400 to 599, or None, from ServerConfig.authorize, got True"),
        ({"authorize": lambda _: False}, "got False"),
        ({"authorize": lambda _: 200}, "got 200"),
        ({"authorize": lambda _: 600}, "got 600"),
        ({"authorize": lambda _: "401"}, "got '401'"),
    ],
)
def test_what_it_does_wrong_lets_nobody_in(config: dict[str, Any], text: str, request_: bytes) -> None:
    machine = server(**config)
    assert answers_to(machine, request_ + post()) == [500]
    (closed,) = take(machine)
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, UpgradeFailed)
    assert closed.error.status == 500
    assert text in str(closed.error)
    assert isinstance(closed.error.__cause__, KeyError) == ("KeyError" in text)
    assert TOKEN not in str(closed.error)


def test_no_repr_shows_what_a_client_said() -> None:
    machine = server()
    machine.receive_data(upgrade(f"/key-{TOKEN}?access_token={TOKEN}", f"Authorization: Bearer {TOKEN}"), 0.0)
    assert machine.request is not None
    assert repr(machine.request) == "<ClientRequest for a WebSocket>"
    assert TOKEN not in repr(machine)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 403), ("the token", 101)])
def test_the_example_of_the_documentation_does_so(token: str | None, status: int) -> None:
    page = (Path(__file__).parents[2] / "docs/reference/machines.md").read_text()
    (source,) = re.findall(r"^```python\n([^`]*def authorize.*?)^```", page, re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(source, "documentation", "exec"), namespace)
    machine = ServerConnection(namespace["config"], tokens=ConnectionTokens(names()), now=0.0)
    assert answers_to(machine, upgrade("/hub", *([f"Authorization: Bearer {token}"] if token else []))) == [status]


# --------------------------------------------------------------------------------------------------- redirects

SERVICE = "https://svc.example/client/?hub=chat&asrs.op=%2Fchat&asrs_request_id=a%2Bb%3D%3D"


def to_service(request: ClientRequest) -> Redirect | None:
    """As an application server sends its clients to Azure SignalR."""
    return Redirect(SERVICE, "theirs") if request.path == "/chat" else None


@pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
def test_a_server_sends_its_clients_to_another(cut: Any) -> None:
    seen: list[ClientRequest] = []

    def authorize(request: ClientRequest) -> int | None:
        seen.append(request)
        return None

    client = hub("https://app.test/chat?mine=1", access_token=TOKEN)
    pair = joined(client, answer=obliging, chunking=cut, redirects=to_service, authorize=authorize)
    assert client.state is State.CONNECTED
    hosts = [event.host for event in pair.events if isinstance(event, Dial)]
    assert hosts == ["app.test", "svc.example", "svc.example"]
    # Of a path that ends in a slash, negotiation keeps none: `/client/negotiate`.
    assert [(each.path, each.negotiates, each.access_token) for each in seen] == [
        ("/chat", True, TOKEN),
        ("/client", True, "theirs"),
        ("/client/", False, "theirs"),
    ]
    carried = [("hub", "chat"), ("asrs.op", "/chat"), ("asrs_request_id", "a+b==")]
    assert seen[0].query == [("mine", "1"), ("negotiateVersion", "1")]
    assert seen[1].query == [*carried, ("negotiateVersion", "1")]
    assert seen[2].query == [*carried, ("id", "name-2")]
    client.invoke("echo", [1], now=0.0)
    pair.drive()
    assert [event.result for event in pair.events if isinstance(event, Completed)] == [[1]]


def test_a_redirect_is_written_as_application_servers_write_it() -> None:
    machine = server(redirects=to_service)
    machine.receive_data(post("/chat/negotiate?negotiateVersion=1"), 0.0)
    body = json.loads(machine.data_to_send().partition(b"\r\n\r\n")[2])
    assert body == {"negotiateVersion": 0, "url": SERVICE, "accessToken": "theirs", "availableTransports": []}
    machine = server(redirects=lambda _: Redirect("https://other.test/hub"))
    machine.receive_data(post(), 0.0)
    body = json.loads(machine.data_to_send().partition(b"\r\n\r\n")[2])
    assert body == {"negotiateVersion": 0, "url": "https://other.test/hub", "availableTransports": []}


@pytest.mark.parametrize("redirects", [raising, lambda _: "https://other.test", lambda _: Redirect("other")])
def test_a_redirect_that_is_none_is_answered_with_500(redirects: Callable[[ClientRequest], Any]) -> None:
    machine = server(redirects=redirects)
    assert answers_to(machine, post()) == [500]
    (closed,) = take(machine)
    assert isinstance(closed.error, UpgradeFailed)


@pytest.mark.parametrize("url", ["", "other", "/hub", "ftp://h/", "https://u:p@h/"])
def test_a_redirect_goes_to_a_url(url: str) -> None:
    with pytest.raises(LocalProtocolError):
        Redirect(url)


def test_no_repr_shows_where_or_with_what() -> None:
    assert repr(Redirect(f"https://h/{TOKEN}?{TOKEN}", TOKEN)) == "<Redirect to https://h>"


# ----------------------------------------------------------------------------- redirects as clients meet them


def redirection(**members: Any) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"negotiateVersion": 1},
        {"negotiateVersion": 0, "availableTransports": []},
        {"connectionId": "", "availableTransports": []},
        {"connectionId": None, "connectionToken": None, "availableTransports": None},
        # What is there for a connection counts for nothing beside a URL.
        {"connectionId": "c", "availableTransports": [{"transport": "LongPolling", "transferFormats": ["Text"]}]},
        {"error": None, "ProtocolVersion": None},
    ],
)
def test_a_client_goes_where_an_independent_server_sends_it(members: dict[str, Any]) -> None:
    connection = hub("https://app.test/chat?mine=1", access_token=TOKEN)
    peer = ScriptedHub(connection)
    request = peer.take_request()
    assert (request.url, request.authorization) == (
        "https://app.test/chat/negotiate?mine=1&negotiateVersion=1",
        f"Bearer {TOKEN}",
    )
    peer.respond(200, redirection(url=SERVICE, accessToken="theirs", **members))
    request = peer.take_request()
    assert (request.method, request.authorization) == ("POST", "Bearer theirs")
    assert request.url == (
        "https://svc.example/client/negotiate?hub=chat&asrs.op=%2Fchat&asrs_request_id=a%2Bb%3D%3D&negotiateVersion=1"
    )
    offer = {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}
    peer.respond(
        200,
        redirection(negotiateVersion=1, connectionId="c", connectionToken="t/o k", availableTransports=[offer]),
    )
    request = peer.take_request()
    assert (request.upgrade, request.authorization) == (True, "Bearer theirs")
    assert request.url == f"{SERVICE.replace('https', 'wss', 1)}&id=t%2Fo%20k"
    peer.accept()
    peer.send("{}\x1e")
    assert (connection.state, connection.connection_id) == (State.CONNECTED, "c")


def test_the_last_redirect_counts_and_the_last_token_that_came() -> None:
    connection = hub("https://app.test/chat", access_token=TOKEN)
    peer = ScriptedHub(connection)
    seen = []
    for url, token in [("https://one.test/a", "one"), ("https://two.test/b?x=1", None), ("https://one.test/c", "")]:
        seen.append(peer.take_request())
        peer.respond(200, redirection(url=url, accessToken=token))
    seen.append(peer.take_request())
    assert [(each.url, each.authorization) for each in seen] == [
        ("https://app.test/chat/negotiate?negotiateVersion=1", f"Bearer {TOKEN}"),
        ("https://one.test/a/negotiate?negotiateVersion=1", "Bearer one"),
        ("https://two.test/b/negotiate?x=1&negotiateVersion=1", "Bearer one"),
        ("https://one.test/c/negotiate?negotiateVersion=1", "Bearer one"),
    ]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"error": "not today"}, "the server refused to negotiate: not today"),
        ({"error": ""}, "the server refused to negotiate: "),
        ({"ProtocolVersion": "1.5"}, "classic ASP.NET SignalR"),
        ({"error": "not today", "ProtocolVersion": "1.5"}, "not today"),
    ],
)
def test_an_error_counts_more_than_a_redirect(members: dict[str, Any], text: str) -> None:
    peer = RawPeer(hub())
    peer.negotiate(http(200, redirection(url=SERVICE, accessToken="theirs", **members)))
    assert isinstance(peer.error, NegotiationFailed)
    assert text in str(peer.error)


@pytest.mark.parametrize("url", ["/client/", "//svc.example/client/", "wss://svc.example/client/"])
def test_a_redirect_needs_a_whole_url_of_http(url: str) -> None:
    peer = RawPeer(hub())
    peer.negotiate(http(200, redirection(url=url)))
    assert isinstance(peer.error, NegotiationFailed)
    assert "redirects to where this client does not go" in str(peer.error)
