"""Stateful reconnect with the current client: connections to our server outlive their streams, and nobody notices."""

from __future__ import annotations

import pytest

from interop_hub import InteropHub, Serve
from microsoft import MicrosoftClient, Runtime, skip_without

skip_without()


def hub_for(runtime: Runtime, serve: Serve, **options: object) -> InteropHub:
    return serve(runtime, stateful_reconnect=True, **options)


def is_back(client: MicrosoftClient) -> None:
    """Wait until it has resumed. It tries once, so a stream that breaks meanwhile is the end of the connection."""
    assert client.invoke("Add", 1, 2) == 3


def test_nothing_is_lost_doubled_or_out_of_order(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = hub_for(current, serve)
    with current.connect(hub.hub_url, encoding=encoding, stateful=True, reconnect=[0]) as client:
        client.do("on", target="news")
        machine = hub.hubs[0].machine
        assert machine.is_stateful
        calls = []
        for number in range(30):
            if number % 7 == 3:
                is_back(client)
            hub.tell("news", number)
            calls.append(client.call("Add", number, 1))
            client.send("Log", number)
            if number % 7 == 3:
                hub.cut()
        assert [client.next("called")["values"] for _ in calls] == [[number] for number in range(30)]
        assert [call.result(10.0) for call in calls] == list(range(1, 31))
        assert client.invoke("Add", 1, 2) == 3
        assert [call.arguments for call in hub.called if call.target == "Log"] == [[number] for number in range(30)]
        assert {each.machine for each in hub.hubs} == {machine}
        assert len(hub.hubs) > 1


def test_a_stream_goes_on_across_losses(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = hub_for(current, serve)
    with current.connect(hub.hub_url, encoding=encoding, stateful=True) as client:
        stream = client.stream("Forever")
        items = [client.next("item")["item"]]
        call = hub.called[0].invocation_id
        assert call is not None
        for number in range(2, 12):
            if number % 3 == 0:
                hub.cut()
            hub.send_item(call, number)
            items.append(client.next("item")["item"])
        assert items == list(range(1, 12))
        client.do("dispose", stream=stream)
        hub.wait(lambda: hub.cancelled)


def test_an_upload_goes_on_across_losses(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = hub_for(current, serve)
    with current.connect(hub.hub_url, encoding=encoding, stateful=True) as client:
        total = client.call("Sum", {"$subject": 1})
        for item in range(40):
            if item % 11 == 5:
                is_back(client)
            client.do("next", subject=1, item=item)
            if item % 11 == 5:
                hub.cut()
        client.do("complete", subject=1)
        assert total.result(10.0) == sum(range(40))


def test_many_messages_are_acknowledged(current: Runtime, encoding: str, serve: Serve) -> None:
    """More than either side keeps, so that it stops without the acknowledgements of the other."""
    hub = hub_for(current, serve)
    with current.connect(hub.hub_url, encoding=encoding, stateful=True) as client:
        text = "x" * 30_000
        machine = hub.hubs[0].machine
        for number in range(6):
            hub.wait(lambda: machine.unacknowledged_bytes < 60_000)
            assert client.invoke("Echo", text) == text
            if number == 4:
                hub.cut()
        assert len({each.machine for each in hub.hubs}) == 1


@pytest.mark.parametrize("reconnect", [None, [0, 0]])
def test_one_that_comes_too_late_begins_anew(
    current: Runtime, encoding: str, serve: Serve, reconnect: list[int] | None
) -> None:
    hub = hub_for(current, serve, resume_timeout=0.001)
    options = {} if reconnect is None else {"reconnect": reconnect}
    client = current.open(hub.hub_url, encoding=encoding, stateful=True, **options)
    client.start()
    first = hub.hubs[0]
    hub.stop()
    hub.wait(lambda: first.end)
    assert "not resumed within 0.001 s" in str(first.end and first.end.error)
    client.next("closed" if reconnect is None else "reconnecting")
    client.ask("stop")


def test_it_goes_without_where_it_is_not_granted(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(current)
    with current.connect(hub.hub_url, encoding=encoding, stateful=True) as client:
        assert not hub.hubs[0].machine.is_stateful
        assert client.invoke("Add", 1, 2) == 3


def test_the_older_client_does_not_ask_for_it(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = hub_for(runtime, serve)
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        assert not hub.hubs[0].machine.is_stateful
        assert client.invoke("Add", 1, 2) == 3


@pytest.mark.parametrize("allow_reconnect", [False, True])
def test_a_goodbye_of_the_server_is_the_end(
    current: Runtime, encoding: str, serve: Serve, *, allow_reconnect: bool
) -> None:
    hub = hub_for(current, serve)
    client = current.open(hub.hub_url, encoding=encoding, stateful=True)
    client.start()
    hub.hang_up_politely(error="closing time", allow_reconnect=allow_reconnect)
    assert "closing time" in client.next("closed")["error"]
    hub.wait(lambda: hub.hubs[0].end)
    assert len(hub.hubs) == 1


def test_a_goodbye_of_the_client_is_the_end(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = hub_for(current, serve)
    with current.connect(hub.hub_url, encoding=encoding, stateful=True) as client:
        client.invoke("Add", 1)
    assert client.next("closed") == {"error": None}
    hub.wait(lambda: hub.hubs[0].end)
    assert hub.hubs[0].end is not None
    assert hub.hubs[0].end.error is None
