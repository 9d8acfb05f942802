"""A driver that stops reading says so: silence is then nobody's fault, and pings go on."""

from __future__ import annotations

import math

import pytest

from etorox_proto import TimedOut
from etorox_proto.signalr import State
from machines import (
    HANDSHAKE,
    RawPeer,
    connected_peer,
    exchange,
    frame,
    hub,
    hub_frame,
    ready_peer,
    records,
    server,
    take,
)


def pass_time(peer: RawPeer, seconds: float) -> int:
    """Let time pass, deadline by deadline; how many pings went out."""
    end, pings = peer.now + seconds, 0
    peer.said()
    while peer.client.deadline <= end:
        peer.wait_until_deadline()
        pings += peer.said().count({"type": 6})
    peer.now = end
    return pings


@pytest.mark.parametrize("make", [connected_peer, ready_peer])
def test_a_paused_reader_does_not_time_its_server_out_and_pings_on(make: object) -> None:
    peer: RawPeer = make()  # type: ignore[operator]
    peer.client.reading_paused(peer.now)
    assert pass_time(peer, 3_600.0) == 240
    assert peer.events == []
    peer.client.reading_resumed(peer.now)
    pass_time(peer, 29.0)
    assert peer.events == []
    pass_time(peer, 2.0)
    assert isinstance(peer.error, TimedOut)
    assert peer.error.timer == "silence"


def test_what_is_read_during_a_pause_is_taken_and_arms_nothing() -> None:
    peer = connected_peer()
    peer.client.reading_paused(peer.now)
    peer.feed(hub_frame({"type": 1, "target": "t", "arguments": []}))
    assert len(peer.events) == 1
    assert peer.client.last_heard == peer.now
    pass_time(peer, 1_000.0)
    assert len(peer.events) == 1


def test_a_pause_before_the_handshake_counts_from_the_connection_on() -> None:
    peer = RawPeer(hub())
    peer.negotiate()
    peer.client.reading_paused(peer.now)
    peer.client.reading_resumed(peer.now)
    assert peer.client.last_heard == -math.inf
    peer.client.reading_paused(peer.now)
    peer.upgrade(HANDSHAKE)
    peer.events.clear()
    pass_time(peer, 1_000.0)
    assert peer.events == []
    peer.client.reading_resumed(peer.now)
    pass_time(peer, 31.0)
    assert isinstance(peer.error, TimedOut)


def test_resuming_without_a_pause_does_not_put_the_deadline_off() -> None:
    peer = connected_peer()
    peer.now = 20.0
    peer.client.handle_timeout(peer.now)
    peer.client.reading_resumed(peer.now)
    pass_time(peer, 11.0)
    assert isinstance(peer.error, TimedOut)


def test_both_do_nothing_after_the_end() -> None:
    for client in (hub(), exchange()):
        client.close(wait=False, now=0.0)
        client.reading_paused(1.0)
        client.reading_resumed(2.0)
        assert client.deadline == math.inf


def test_a_server_may_pause_too() -> None:
    machine = server()
    machine.receive_data(
        b"GET /hub HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        0.0,
    )
    machine.receive_data(frame(records({"protocol": "json", "version": 1}, {"type": 6}), masked=True), 0.0)
    machine.reading_paused(1.0)
    now = 1.0
    while now < 500.0:
        now = machine.deadline
        machine.handle_timeout(now)
        machine.data_to_send()
    assert machine.state is State.CONNECTED
    machine.reading_resumed(now)
    machine.handle_timeout(now + 30.0)
    assert take(machine)[-1].error.timer == "silence"
