"""Microsoft's clients call our server, and it calls them: both generations, both encodings, in Node and in Chromium."""

from __future__ import annotations

import pytest

from interop_hub import InteropHub, Serve
from microsoft import ClientError, Runtime, skip_without

skip_without()


def test_it_connects_and_knows_its_id(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        machine = hub.hubs[0].machine
        assert machine.encoding == encoding
        assert machine.path == "/hub"
        if runtime.generation == "1.1":
            assert client.id is None  # it does not tell its user
        else:
            assert client.id == machine.connection_id


def test_it_connects_without_negotiation(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, encoding=encoding, skipNegotiation=True) as client:
        assert client.invoke("Add", 1, 2) == 3
        assert client.id is None
        assert len(hub.clients) == 1


VALUES = [
    None,
    True,
    0,
    -1,
    127,
    128,
    -32_769,
    2**31,
    2**53 - 1,
    1.5,
    -0.25,  # of 32 bits too: older clients in browsers send no more over MessagePack
    "",
    "grün \N{SNOWMAN} \N{MUSICAL SYMBOL G CLEF} \u2028 \x1e \0",
    [],
    {},
    {"a": [1, {"b": None}], "": "empty"},
    "long " * 5_000,
    list(range(3_000)),
]


def test_values_travel_unchanged(runtime: Runtime, encoding: str, serve: Serve) -> None:
    with runtime.connect(serve(runtime).hub_url, encoding=encoding) as client:
        for value in VALUES:
            assert client.invoke("Echo", value) == value


def test_values_travel_compressed(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime, compression=True)
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        for value in VALUES:
            assert client.invoke("Echo", value) == value
        text = "again and " * 3_000
        for _ in range(3):
            before = len(hub.hubs[0].heard)
            assert client.invoke("Echo", text) == text
            assert len(hub.hubs[0].heard) - before < len(text) / 10


def test_calls_are_answered_each_by_itself(runtime: Runtime, encoding: str, serve: Serve) -> None:
    with runtime.connect(serve(runtime).hub_url, encoding=encoding) as client:
        calls = [client.call("Add", number, 1) for number in range(100)]
        assert [call.result(10.0) for call in calls] == list(range(1, 101))
        assert client.invoke("Nothing") is None


def test_a_call_that_wants_no_answer_arrives(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        client.send("Log", "a", 1)
        hub.wait(lambda: hub.called)
        (call,) = hub.called
        assert (call.target, call.arguments, call.invocation_id) == ("Log", ["a", 1], None)


def test_errors_of_a_method_reach_the_caller(runtime: Runtime, encoding: str, serve: Serve) -> None:
    with runtime.connect(serve(runtime).hub_url, encoding=encoding) as client:
        with pytest.raises(ClientError, match=r"invoking 'Fail' on the server\. HubException: as you like"):
            client.invoke("Fail")
        with pytest.raises(ClientError, match=r"Failed to invoke 'Nowhere' .* HubException: Method does not exist\."):
            client.invoke("Nowhere", 1)
        assert client.invoke("Add", 1, 2) == 3


def test_a_stream_gives_its_items_and_ends(runtime: Runtime, encoding: str, serve: Serve) -> None:
    with runtime.connect(serve(runtime).hub_url, encoding=encoding) as client:
        assert client.items(client.stream("Count", 500, None)) == list(range(500))
        assert client.items(client.stream("Count", 0, None)) == []


def test_a_stream_that_fails_says_why(runtime: Runtime, encoding: str, serve: Serve) -> None:
    with runtime.connect(serve(runtime).hub_url, encoding=encoding) as client:
        assert client.items(client.stream("Count", 2, "broke off")) == [0, 1, "broke off"]
        (error,) = client.items(client.stream("Nowhere"))
        assert "Method does not exist." in error


def test_disposing_of_a_stream_cancels_it(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        stream = client.stream("Forever")
        assert client.next("item") == {"stream": stream, "item": 1}
        if (runtime.generation, encoding) == ("1.1", "messagepack"):
            with pytest.raises(ClientError, match="Invalid message type"):  # it has no word for it in this encoding
                client.do("dispose", stream=stream)
            return
        client.do("dispose", stream=stream)
        hub.wait(lambda: hub.cancelled)
        assert hub.cancelled == [hub.called[0].invocation_id]
        assert client.invoke("Add", 1, 2) == 3


def test_the_server_calls(runtime: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(runtime)
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        client.do("on", target="news")
        for number in range(3):
            hub.tell("news", number, {"text": "é"})
            assert client.next("called") == {"target": "news", "values": [number, {"text": "é"}]}
        hub.tell("not listened to", 1)
        assert client.invoke("Add", 1, 2) == 3


# ------------------------------------------------------------------------------- what only the current client can do


def upload(hub: InteropHub, runtime: Runtime, encoding: str, *ends: tuple[str, dict[str, str]]) -> object:
    with runtime.connect(hub.hub_url, encoding=encoding) as client:
        total = client.call("Sum", {"$subject": 1})
        for item in range(10):
            client.do("next", subject=1, item=item)
        for command, details in ends:
            client.do(command, subject=1, **details)
        return total.result(10.0)


def test_an_upload_arrives(current: Runtime, encoding: str, serve: Serve) -> None:
    assert upload(serve(current), current, encoding, ("complete", {})) == 45


def test_an_upload_that_fails_says_why(current: Runtime, encoding: str, serve: Serve) -> None:
    with pytest.raises(ClientError, match="no more of it"):
        upload(serve(current), current, encoding, ("fail", {"error": "no more of it"}))


def test_uploads_go_along_with_other_arguments_and_calls(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(current)
    with current.connect(hub.hub_url, encoding=encoding) as client:
        totals = [client.call("Sum", {"$subject": number}) for number in range(3)]
        for item in range(20):
            for number in range(3):
                client.do("next", subject=number, item=number * item)
            assert client.invoke("Add", item, 1) == item + 1
        for number in range(3):
            client.do("complete", subject=number)
        assert [total.result(10.0) for total in totals] == [0, 190, 380]


def test_the_server_asks_for_results(current: Runtime, encoding: str, serve: Serve) -> None:
    hub = serve(current)
    with current.connect(hub.hub_url, encoding=encoding) as client:
        client.do("on", target="echo", answers=True)
        client.do("on", target="fail", error="not today")
        client.do("on", target="silent")
        for target in ("echo", "fail", "silent", "unknown"):
            hub.ask(target, {"a": [1, None]})
        hub.wait(lambda: len(hub.answers) == 4)
        answers = {answer.call.target: answer for answer in hub.answers}
        assert (answers["echo"].result, answers["echo"].error) == ({"a": [1, None]}, None)
        assert "not today" in str(answers["fail"].error)
        assert "Client didn't provide a result." in str(answers["silent"].error)
        assert "Client didn't provide a result." in str(answers["unknown"].error)
