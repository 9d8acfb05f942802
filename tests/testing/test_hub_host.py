"""`HubHost`: a hub of a few lines, its clients in virtual time, and what becomes of both on a bad day."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from etorox_proto.signalr import (
    Closed,
    Completed,
    Connected,
    ConnectionClosed,
    ConnectionLost,
    HubConfig,
    HubConnection,
    InvocationReceived,
    ServerClosed,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    State,
    TimedOut,
)
from etorox_proto.testing import (
    Driver,
    HostConnection,
    HubHost,
    Link,
    Listener,
    VirtualNetwork,
    bytewise,
    websocket_frame,
)

RESUMING = {"skip_negotiation": False, "stateful_reconnect": True}


class Chat:
    """A hub where whoever says something is heard by all; one that adds, and one that leaves."""

    def __init__(self, link: Link | None = None, **options: Any) -> None:
        self.network = VirtualNetwork(link=link or Link())
        self.hub = HubHost(self._answer, ServerConfig(**options) if options else None)
        self.listener: Listener = self.network.listen(self.hub, "hub.test")
        self.seen: list[tuple[ServerConnection, ServerEvent]] = []

    def _answer(self, connection: ServerConnection, event: ServerEvent, now: float) -> None:
        assert now >= self.network.now
        self.seen.append((connection, event))
        match event:
            case InvocationReceived("say", [text]):
                for each in self.hub.connections:
                    each.send("said", [text], now=now)
            case InvocationReceived("add", [one, other], str(call)):
                connection.complete(call, result=one + other, now=now)
            case InvocationReceived("leave"):
                connection.close(error="bye", now=now)
            case InvocationReceived("fail"):
                raise ZeroDivisionError("in the test's hub")
            case _:
                pass

    def join(self, **options: Any) -> Driver[Any]:
        config = HubConfig(**{"url": "https://hub.test/chat", "skip_negotiation": True, **options})
        driver = self.network.drive(HubConnection(config, now=self.network.now))
        self.network.wait_for(lambda: driver.events)
        assert isinstance(driver.events[0], Connected)
        return driver

    def seen_of(self, connection: ServerConnection) -> list[ServerEvent]:
        return [event for each, event in self.seen if each is connection]


class Spy:
    """The hub at another address, where its streams are noted."""

    deadline = math.inf

    def __init__(self, hub: HubHost, streams: list[HostConnection]) -> None:
        self.advance = hub.advance
        self._hub = hub
        self._streams = streams

    def accept(self, now: float) -> HostConnection:
        self._streams.append(self._hub.accept(now))
        return self._streams[-1]


def text(*records: str) -> bytes:
    """A client's frame with these records."""
    return websocket_frame("".join(record + "\x1e" for record in records).encode(), masked=True)


def client(driver: Driver[Any]) -> HubConnection:
    assert isinstance(driver.machine, HubConnection)
    return driver.machine


def said(driver: Driver[Any]) -> list[Any]:
    return [event.arguments[0] for event in driver.events if isinstance(event, InvocationReceived)]


@pytest.mark.parametrize("skip_negotiation", [True, False])
def test_calls_are_answered(skip_negotiation: bool) -> None:
    chat = Chat(Link(chunking=bytewise))
    ann = chat.join(skip_negotiation=skip_negotiation)
    call = client(ann).invoke("add", [1, 2], now=chat.network.now)
    chat.network.wait_for(lambda: len(ann.events) > 1)
    assert ann.events[1] == Completed(call, 3, None)
    (connection,) = chat.hub.connections
    assert [type(event) for event in chat.seen_of(connection)] == [Connected, InvocationReceived]
    assert repr(chat.hub) == "<HubHost: 1 connections>"
    client(ann).close(now=chat.network.now)
    chat.network.run_for(1.0)
    assert chat.hub.connections == []
    assert [type(event) for _, event in chat.seen] == [Connected, InvocationReceived, Closed]
    assert not chat.network.streams


def test_what_one_says_is_sent_to_all_at_once() -> None:
    chat = Chat(Link(latency=0.25))
    ann, ben = chat.join(), chat.join()
    client(ann).send("say", ["hi"], now=chat.network.now)
    chat.network.run_for(0.49)
    assert said(ann) == said(ben) == []
    chat.network.run_for(0.01)
    assert said(ann) == said(ben) == ["hi"]


def test_a_test_commands_the_machines_itself() -> None:
    chat = Chat()
    drivers = [chat.join() for _ in range(3)]
    for number, connection in enumerate(chat.hub.connections):
        connection.send("said", [number], now=chat.network.now)
    chat.network.run_for(1.0)
    assert [said(driver) for driver in drivers] == [[0], [1], [2]]
    chat.hub.connections[1].close(error="you", now=chat.network.now)
    chat.network.run_for(1.0)
    assert [driver.is_closed for driver in drivers] == [False, True, False]
    assert len(chat.hub.connections) == 2


def test_what_a_hub_raises_ends_the_run() -> None:
    chat = Chat()
    client(chat.join()).send("fail", [], now=chat.network.now)
    with pytest.raises(ZeroDivisionError, match="in the test's hub"):
        chat.network.run_for(1.0)


def test_an_answer_to_one_who_has_left_is_dropped() -> None:
    """Call and goodbye arrive in one piece: the call is shown, and what the hub would answer is of no use."""
    chat = Chat()
    ann = chat.join()
    client(ann).invoke("add", [1, 2], now=chat.network.now)
    client(ann).close(now=chat.network.now)
    chat.network.run_for(1.0)
    assert [type(event) for _, event in chat.seen] == [Connected, InvocationReceived, Closed]
    assert ann.is_closed


def test_a_hub_may_show_someone_out() -> None:
    chat = Chat()
    ann, ben = chat.join(), chat.join()
    client(ann).send("leave", [], now=chat.network.now)
    chat.network.run_for(1.0)
    assert [ann.is_closed, ben.is_closed] == [True, False]
    assert "bye" in str(ann.error)
    assert len(chat.hub.connections) == 1


def test_who_only_negotiates_is_not_shown() -> None:
    chat = Chat()
    stream = chat.hub.accept(0.0)
    stream.receive_data(
        b"POST /chat/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 0.0
    )
    assert stream.data_to_send().startswith(b"HTTP/1.1 200")
    stream.receive_data(b"", 0.0)
    assert stream.closed
    assert chat.seen == []


def test_a_silent_client_is_given_up() -> None:
    chat = Chat(client_timeout=20.0)
    ann = chat.join(ping_interval=5.0)
    chat.network.run_for(100.0)
    assert not ann.is_closed
    assert ann.stream is not None
    ann.stream.black_hole("server")
    chat.network.run_for(30.0)
    ((_, closed),) = chat.seen[1:]
    assert isinstance(closed, Closed)
    assert isinstance(closed.error, TimedOut)


def test_a_server_that_is_stopped_says_goodbye() -> None:
    chat = Chat()
    ann = chat.join()
    chat.listener.restart(10.0, how="goodbye")
    chat.network.run_for(1.0)
    assert isinstance(ann.error, ServerClosed)
    assert ann.error.may_retry
    assert isinstance(chat.seen[-1][1], Closed)
    assert not chat.network.streams


def test_a_loop_of_ones_own_need_not_ask_for_the_hubs_time() -> None:
    """What comes of a deadline is shown at once."""
    chat = Chat(client_timeout=20.0)
    streams: list[HostConnection] = []
    chat.network.listen(Spy(chat.hub, streams), "spied.test")
    chat.join(url="https://spied.test/chat")
    (stream,) = streams
    chat.network.run_for(1.0)
    assert stream.deadline < math.inf
    while not stream.closed:
        stream.handle_timeout(max(stream.deadline, chat.network.now))
    assert isinstance(chat.seen[-1][1], Closed)


class TestComingBack:
    """Stateful reconnect."""

    def test_a_lost_stream_is_not_noticed(self) -> None:
        chat = Chat(stateful_reconnect=True)
        ann = chat.join(**RESUMING)
        (connection,) = chat.hub.connections
        for number in range(20):
            client(ann).send("say", [number], now=chat.network.now)
            chat.network.run_for(number / 64)
            assert ann.stream is not None
            ann.stream.reset()
            chat.network.run_for(2.0)
        assert said(ann) == [*range(20)]
        assert chat.hub.connections == [connection]
        assert {each for each, _ in chat.seen} == {connection}
        assert len(chat.network.streams) == 1

    def test_what_is_said_meanwhile_waits(self) -> None:
        chat = Chat(stateful_reconnect=True)
        ann, ben = chat.join(**RESUMING), chat.join()
        chat.listener.refuse_dials(1.0)
        assert ann.stream is not None
        ann.stream.reset()
        chat.listener.ignore_dials(3.0)
        client(ben).send("say", ["hi"], now=chat.network.now)
        chat.network.run_for(0.5)
        assert said(ben) == ["hi"]
        assert [each.state for each in chat.hub.connections] == [State.RESUMING, State.CONNECTED]
        chat.network.run_for(5.0)
        assert said(ann) == ["hi"]

    def test_a_stream_that_only_the_client_has_lost_is_closed(self) -> None:
        """The server sees nothing of it until the client is there again, on another one."""
        chat = Chat(stateful_reconnect=True)
        ann = chat.join(**RESUMING)
        lost = ann.stream
        assert lost is not None
        lost.black_hole("server")
        lost.end("client")
        chat.network.run_for(1.0)
        assert ann.stream is not lost
        client(ann).send("say", ["hi"], now=chat.network.now)
        chat.network.run_for(1.0)
        assert said(ann) == ["hi"]
        assert len(chat.hub.connections) == 1
        assert len(chat.listener.streams) == 1

    def test_what_a_client_says_at_once_on_its_new_stream_is_shown(self) -> None:
        """In one piece with its request, which ours does not do."""
        chat = Chat(stateful_reconnect=True)
        request = b"POST /chat/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP/1.1\r\n"
        negotiation = chat.hub.accept(0.0)
        negotiation.receive_data(request + b"Host: h\r\nContent-Length: 0\r\n\r\n", 0.0)
        token = json.loads(negotiation.data_to_send().partition(b"\r\n\r\n")[2])["connectionToken"]
        upgrade = (
            f"GET /chat?id={token} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        chat.hub.accept(0.0).receive_data(upgrade + text('{"protocol":"json","version":2}'), 0.0)
        chat.hub.accept(7.0).receive_data(
            upgrade + text('{"type":9,"sequenceId":1}', '{"type":1,"target":"say","arguments":["early"]}'), 7.0
        )
        (connection,) = chat.hub.connections
        assert [type(event) for event in chat.seen_of(connection)] == [Connected, InvocationReceived]
        assert connection.state is State.CONNECTED

    def test_what_comes_on_a_lost_stream_is_nothing(self) -> None:
        """Loops of others may say it; a `VirtualNetwork` does not."""
        chat = Chat(stateful_reconnect=True)
        streams: list[HostConnection] = []

        chat.network.listen(Spy(chat.hub, streams), "spied.test")
        ann = chat.join(**RESUMING, url="https://spied.test/chat")
        assert ann.stream is not None
        ann.stream.reset()
        chat.network.run_for(2.0)
        old, new = streams[-2:]
        (connection,) = chat.hub.connections
        old.receive_data(b"", chat.network.now)
        old.handle_timeout(chat.network.now)
        old.close(allow_reconnect=True, now=chat.network.now)
        assert (old.closed, old.deadline, old.data_to_send()) == (True, math.inf, b"")
        assert (new.closed, connection.state) == (False, State.CONNECTED)

    def test_who_does_not_come_back_has_left(self) -> None:
        chat = Chat(stateful_reconnect=True, resume_timeout=40.0)
        ann = chat.join(**RESUMING)
        chat.listener.refuse_dials()
        assert ann.stream is not None
        ann.stream.reset()
        chat.network.run_for(39.0)
        (connection,) = chat.hub.connections
        assert len(chat.seen) == 1
        chat.network.run_for(1.1)
        assert chat.hub.connections == []
        closed = chat.seen[-1][1]
        assert isinstance(closed, Closed)
        assert isinstance(closed.error, ConnectionLost)
        with pytest.raises(ConnectionClosed):
            connection.send("said", ["hi"], now=chat.network.now)

    def test_one_who_is_shown_out_meanwhile_cannot(self) -> None:
        chat = Chat(stateful_reconnect=True)
        ann = chat.join(**RESUMING)
        chat.listener.ignore_dials(5.0)
        assert ann.stream is not None
        ann.stream.reset()
        chat.network.run_for(1.0)
        (connection,) = chat.hub.connections
        connection.close(now=chat.network.now)
        chat.network.run_for(0.0)
        assert chat.hub.connections == []
        assert [type(event) for event in chat.seen_of(connection)] == [Connected, Closed]
        chat.network.run_for(60.0)
        assert ann.is_closed
        assert not chat.network.streams
        assert len(chat.seen) == 2
