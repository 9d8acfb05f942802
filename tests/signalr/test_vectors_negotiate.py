"""The published vectors for negotiation, case by case; see `data/vectors/README.md`."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import pytest

from etorox_proto.signalr import (
    Closed,
    ConnectionTokens,
    HubConfig,
    HubConnection,
    NegotiationFailed,
    ServerConfig,
    ServerConnection,
    parse_endpoint,
    parse_negotiate_response,
)
from peers import ScriptedHub, read_json
from vectors import Case, Vectors, check_mentions, wire

NEGOTIATE = Vectors("negotiate")


@NEGOTIATE.each("decode", "response_v0", "response_v1", "response_stateful", "redirect", "error")
def test_responses_are_read(case: Case) -> None:
    response = parse_negotiate_response(wire(case))
    transports = response.available_transports
    assert case["message"] == {
        "type": "negotiate_response",
        "version": response.negotiate_version,
        "connection_id": response.connection_id,
        "connection_token": response.connection_token,
        "connect_id": response.connect_id,
        "available_transports": None
        if transports is None
        else [{"transport": each.transport, "transfer_formats": each.transfer_formats} for each in transports],
        "url": response.url,
        "access_token": response.access_token,
        "error": response.error,
        "use_stateful_reconnect": response.use_stateful_reconnect,
    }


@NEGOTIATE.each("reject")
def test_unusable_responses_are_refused(case: Case) -> None:
    with pytest.raises(NegotiationFailed) as caught:
        parse_negotiate_response(wire(case))
    check_mentions(case, caught.value)


def comparable(url: str) -> tuple[str, str, str, list[tuple[str, str]]]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, parts.path or "/", parse_qsl(parts.query, keep_blank_values=True)


@NEGOTIATE.each("encode", "negotiate_url", "negotiate_url_stateful", "connect_url", "websocket_url")
def test_urls_are_made(case: Case) -> None:
    assert case["compare"] == "url"
    message = case["message"]
    endpoint = parse_endpoint(message["endpoint"])
    match message["type"]:
        case "negotiate_request":
            wanted = message["use_stateful_reconnect"]
            url = endpoint.origin + endpoint.negotiate_target(stateful_reconnect=wanted)
        case "connect_request":
            url = endpoint.origin + endpoint.websocket_target(message["connect_id"])
        case _:
            target = endpoint.websocket_target(message["connect_id"], query_access_token=message["query_access_token"])
            url = endpoint.origin.replace("http", "ws", 1) + target
    assert comparable(url) == comparable(case["wire"])


@NEGOTIATE.each("decode", "transport_choice")
def test_transports_are_chosen(case: Case) -> None:
    choice = case["message"]
    # The client role has WebSockets and nothing else; where an official client goes on to poll, it fails the start.
    chosen = None if choice["chosen"] == "LongPolling" else choice["chosen"]
    assert chosen in {"WebSockets", None}
    encoding: Literal["json", "messagepack"] = "json" if choice["transfer_format"] == "Text" else "messagepack"
    hub = ScriptedHub(HubConnection(HubConfig(url="https://host.example/hub", encoding=encoding), now=0))
    assert hub.take_request().url == "https://host.example/hub/negotiate?negotiateVersion=1"
    hub.respond(200, wire(case))
    if chosen is None:
        (closed,) = hub.found(Closed)
        assert isinstance(closed.error, NegotiationFailed)
    else:
        connection_id = read_json(wire(case))["connectionId"]
        request = hub.take_request()
        assert (request.upgrade, request.url) == (True, f"wss://host.example/hub?id={connection_id}")


def answer_of_server(query: str) -> Any:
    """What the server role answers to a negotiate request with this query; the status is 200."""
    names = iter(["cid", "tok"])
    server = ServerConnection(ServerConfig(), tokens=ConnectionTokens(names), now=0)
    request = f"POST /hub/negotiate?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    server.receive_data(request.encode(), 0)
    head, _, body = server.data_to_send().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return read_json(body)


@NEGOTIATE.each("encode", "server_response")
def test_a_server_answers(case: Case) -> None:
    assert case["compare"] == "json"
    expected = read_json(wire(case))
    if case["message"]["error"] is None:
        # The server role offers WebSockets and nothing else; all the rest is as the officials write it.
        others = {offer["transport"] for offer in expected["availableTransports"][1:]}
        assert others == {"ServerSentEvents", "LongPolling"}
        del expected["availableTransports"][1:]
        assert answer_of_server("negotiateVersion=1") == expected
    else:
        assert case["message"]["error"] == "The client requested a non-integer protocol version."
        assert answer_of_server("negotiateVersion=one") == expected


@NEGOTIATE.each("decode", "server_version")
def test_a_server_chooses_the_version(case: Case) -> None:
    answer = answer_of_server(case["wire"])
    expected = case["message"]
    assert ("error" in answer) == expected["error"]
    if not expected["error"]:
        assert answer["negotiateVersion"] == expected["chosen_version"]
        assert ("connectionToken" in answer) == (expected["chosen_version"] > 0)


def test_no_case_is_left_over() -> None:
    assert NEGOTIATE.left_over() == set()
