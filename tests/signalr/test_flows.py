"""The published conversations, step by step, in virtual time; see `data/vectors/README.md`.

`Conversation` interprets the steps: it plays the application and the clock, and a `ScriptedHub` of h11 and wsproto is
the server. One connection object is one attempt, so "reconnecting" reads here as: closed, and `Retries` says when the
next attempt is due. Where the flows of stateful reconnect send and receive messages of calls that nobody made, a call
of `raw` with the message as its argument travels instead: such messages are counted by their kind and not by what they
mean.
"""

from __future__ import annotations

import json
import math

from etorox_proto.signalr import (
    Call,
    Closed,
    Completed,
    ConnectionFailed,
    HubConfig,
    HubConnection,
    HubError,
    InvocationReceived,
    ItemReceived,
    Retries,
    State,
    Upload,
)
from peers import ScriptedHub, read_json
from vectors import Case, Vectors

FLOWS = Vectors("flows")

# The wire's spelling of the vectors' normal form.
TYPES = {"invocation": 1, "stream_item": 2, "completion": 3, "stream_invocation": 4, "cancel_invocation": 5}
TYPES |= {"ping": 6, "close": 7, "ack": 8, "sequence": 9}
NAMES = {
    "invocation_id": "invocationId",
    "stream_ids": "streamIds",
    "allow_reconnect": "allowReconnect",
    "sequence_id": "sequenceId",
}


class Conversation:
    """One flow: its connection, its server, and what has been seen so far."""

    def __init__(self, flow: Case) -> None:
        self.setup, _, policy = flow["setup"].partition(", ")
        self.is_stateful = policy == "stateful reconnect agreed"
        # Without a policy nobody asks `Retries`; that it is fed all the same changes nothing.
        self.retries = Retries() if policy == "default reconnect policy" else Retries(())
        self.told = 0
        assert policy in {
            *("", "default reconnect policy", "reconnect policy with no delays", "stateful reconnect agreed")
        }
        # An application says beforehand what it answers; the flows say it when they register their handlers.
        commands = [step["app"] for step in flow["steps"] if "app" in step]
        self.handlers = {
            command["target"]: command
            for command in commands
            if command["call"] == "on" and command.keys() & {"returns", "raises"}
        }
        self.config = config = HubConfig(
            handles=self.handlers,
            url=flow.get("endpoint", "https://host.example/hub"),
            access_token=flow.get("access_token"),
            skip_negotiation=self.setup != "disconnected" and not self.is_stateful,
            stateful_reconnect=self.is_stateful,
            allow_insecure=True,
        )
        self.connection = HubConnection(config, now=0)
        self.hub = ScriptedHub(self.connection)
        self.calls: dict[str, Call] = {}
        self.uploads: dict[str, Upload] = {}
        self.answered: set[str] = set()
        self.outbox: list[Case] = []
        self.recent: list[Case] = []
        if self.setup == "connected":
            if self.is_stateful:
                self.agree()
            self.hub.connect()
            assert self.sent_messages() == [{"type": 6}]
        else:
            assert self.setup in {"connecting", "disconnected"}

    def agree(self) -> None:
        """Negotiate that the connection can be resumed."""
        assert self.hub.take_request().url.endswith("&useStatefulReconnect=true")
        offers = [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}]
        answer = {"connectionId": "1", "availableTransports": offers, "useStatefulReconnect": True}
        self.hub.respond(200, json.dumps(answer).encode())

    def sent_messages(self) -> list[Case]:
        """What the client sent since the last look."""
        text = "".join(self.hub.texts)
        self.hub.texts.clear()
        assert not text or text.endswith("\x1e")
        return [read_json(record) for record in text.split("\x1e")[:-1]]

    def run(self, steps: list[Case]) -> None:
        for step in steps:
            match step:
                case {"expect": expected}:
                    self.expect(expected)
                case {"repeat": times, "steps": inner}:
                    for _ in range(times):
                        self.run(inner)
                case {"sent": message}:
                    self.take_sent(self.travelling(message), optional=step.get("optional", False))
                case {"sent_wire": text, "compare": "json"}:
                    self.take_sent(read_json(text.removesuffix("\x1e")), optional=False)
                case {"sent_error_completion": {"invocation_id": invocation_id}}:
                    message = self.outbox.pop(0)
                    assert (message["type"], message["invocationId"]) == (3, invocation_id)
                    assert message["error"]
                    assert "result" not in message
                case _:
                    self.act(step)
                    self.tell_retries()
                    self.recent = self.sent_messages()
                    self.outbox += [message for message in self.recent if message != {"type": 6}]

    def act(self, step: Case) -> None:
        """A step that changes something."""
        hub = self.hub
        match step:
            case {"app": command}:
                self.command(command)
            case {"received": messages}:
                hub.send(*map(self.travelling, messages))
                self.answer()
            case {"received_wire": text}:
                hub.send(text)
            case {"transport": "open" | "restored"}:
                hub.open()
                hub.accept()
            case {"transport": "lost"}:
                hub.drop()
            case {"transport": "attempt_failed"}:
                assert self.retries.deadline == hub.now
                attempt = HubConnection(self.config, now=hub.now)
                attempt.receive_data(b"", hub.now)
                while (event := attempt.next_event()) is not None:
                    self.retries.handle_event(event, hub.now)
            case {"clock": seconds}:
                hub.advance(seconds)
            case {"http_request": expected}:
                request = hub.take_request()
                assert (request.method, request.authorization) == (expected["method"], expected["authorization"])
                assert expected["url"] in {None, request.url}
            case {"http_response": {"status": status, "body": body}}:
                hub.respond(status, body.encode() if isinstance(body, str) else json.dumps(body).encode())
            case {"websocket_request": expected}:
                request = hub.take_request()
                assert request.upgrade
                assert (request.url, request.authorization) == (expected["url"], expected["authorization"])
            case _:
                raise AssertionError(f"a step that this interpreter does not know: {step}")

    def tell_retries(self) -> None:
        """Show the connection's events to what decides on the next attempt."""
        for event in self.hub.events[self.told :]:
            self.retries.handle_event(event, self.hub.now)
        self.told = len(self.hub.events)

    def command(self, command: Case) -> None:
        """The application does something; a handler and a start need nothing from a connection."""
        connection, now = self.connection, self.hub.now
        uploads = command.get("uploads", [])
        match command:
            case {"call": "invoke", "as": name, "target": target, "arguments": arguments}:
                self.calls[name] = connection.invoke(target, arguments, uploads=len(uploads), now=now)
                self.uploads |= zip(uploads, self.calls[name].uploads, strict=True)
            case {"call": "stream", "as": name, "target": target, "arguments": arguments}:
                self.calls[name] = connection.stream(target, arguments, uploads=len(uploads), now=now)
                self.uploads |= zip(uploads, self.calls[name].uploads, strict=True)
            case {"call": "upload_item", "of": name, "item": item}:
                assert connection.send_item(self.uploads[name], item, now=now)
            case {"call": "raw_send", "message": message}:
                connection.send("raw", [message], now=now)
            case {"call": "send", "target": target, "arguments": arguments}:
                connection.send(target, arguments, now=now)
            case {"call": "cancel", "of": name}:
                connection.cancel(self.calls[name], now=now)
            case {"call": "stop"}:
                connection.close(now=now)
                self.retries.stop()
            case {"call": "start"} | {"call": "on", "target": str()}:
                pass
            case _:
                raise AssertionError(f"a command that this interpreter does not know: {command}")
        self.hub.pump()

    def answer(self) -> None:
        """The handlers of the application, where the server waits for what they return."""
        for event in self.hub.found(InvocationReceived):
            if event.invocation_id is not None and event.invocation_id not in self.answered:
                self.answered.add(event.invocation_id)
                handler = self.handlers[event.target]
                outcome = {"error": handler["raises"]} if "raises" in handler else {"result": handler["returns"]}
                self.connection.complete(event.invocation_id, **outcome, now=self.hub.now)
        self.hub.pump()

    def take_sent(self, expected: Case, *, optional: bool) -> None:
        if optional and not self.outbox:
            return
        message = self.outbox.pop(0)
        assert without_empty(message) == without_empty(expected)

    def travelling(self, message: Case) -> Case:
        if self.is_stateful and message["type"] in {"stream_item", "completion"}:
            return {"type": 1, "target": "raw", "arguments": [message]}
        return self.on_wire(message)

    def on_wire(self, message: Case) -> Case:
        """A message in normal form as the JSON object that travels."""
        fields = {NAMES.get(name, name): value for name, value in message.items()}
        has_result = fields.pop("has_result", False)
        result = fields.pop("result", None)
        fields = without_empty(fields) | {"type": TYPES[message["type"]]}
        if has_result:
            fields["result"] = result
        if message["type"] in {"invocation", "stream_invocation"}:
            fields["arguments"] = message["arguments"]
        if message["type"] == "stream_item":
            fields["item"] = message["item"]
        fields |= {name: self.named(fields[name]) for name in {"invocationId"} & fields.keys()}
        fields |= {name: [*map(self.named, fields[name])] for name in {"streamIds"} & fields.keys()}
        return fields

    def named(self, wire_id: str) -> str:
        """The id that a name such as `$A` stands for; an id stands for itself."""
        if not wire_id.startswith("$"):
            return wire_id
        name = wire_id[1:]
        return self.uploads[name].stream_id if name in self.uploads else self.calls[name].invocation_id

    # ------------------------------------------------------------------------------------------- the outcome

    def expect(self, expected: Case) -> None:
        match expected:
            case {"call": name}:
                self.expect_call(self.calls[name], expected)
            case {"state": state}:
                self.expect_state(state, expected)
            case {"delay": seconds}:
                assert self.retries.deadline == self.hub.now + seconds
            case {"event": "invocation", "target": target, "arguments": arguments}:
                (event,) = self.hub.found(InvocationReceived)
                assert (event.target, event.arguments) == (target, arguments)
            case {"delivered": messages}:
                # What came before the line broke was delivered then.
                (_, *events) = self.hub.found(InvocationReceived)
                assert [event.arguments[0] for event in events] == messages
            case {"distinct_ids": ids}:
                assert len({*map(self.named, ids)}) == len(ids)
            case {"sends": "nothing"}:
                assert self.recent == []
            case {"sent_ping": True}:
                assert {"type": 6} in self.recent
            case _:
                raise AssertionError(f"an outcome that this interpreter does not know: {expected}")

    def expect_call(self, call: Call, expected: Case) -> None:
        completed = [event for event in self.hub.found(Completed) if event.call is call]
        if expected.get("pending"):
            assert completed == []
        elif expected.keys() & {"result", "has_result", "ended", "failed", "error_contains"}:
            (outcome,) = completed
            fails = "failed" in expected or "error_contains" in expected
            assert (outcome.error is not None) == fails
            assert outcome.result == expected.get("result")
            if "error_contains" in expected:
                assert isinstance(outcome.error, HubError)
                assert expected["error_contains"] in str(outcome.error)
        if "items" in expected:
            items = [event.item for event in self.hub.found(ItemReceived) if event.call is call]
            assert items == expected["items"]

    def expect_state(self, state: str, expected: Case) -> None:
        closed = self.hub.found(Closed)
        if state == "connected":
            assert (self.connection.state, closed) == (State.CONNECTED, [])
            return
        assert (self.connection.state, self.hub.events[-1]) == (State.CLOSED, *closed)
        error: ConnectionFailed | None = closed[0].error
        if state == "reconnecting":
            assert error is not None
            assert self.retries.deadline == self.hub.now + expected.get("delay", 0)
        else:
            assert self.retries.deadline == math.inf
        if "failed" in expected:
            assert (error is not None) == expected["failed"]
        assert expected.get("error_contains", "") in str(error)


def without_empty(message: Case) -> Case:
    """The message without what may as well be absent."""
    empty = {name for name, value in message.items() if value in (None, [], {}) or value is False}
    return {name: value for name, value in message.items() if name not in empty - {"arguments", "item"}}


@FLOWS.each("flow")
def test_flow(case: Case) -> None:
    conversation = Conversation(case)
    conversation.run(case["steps"])
    # The flows that begin with the opening do not all mention the handshake.
    assert conversation.outbox in ([], [{"protocol": "json", "version": 1}])
    # Whatever happened, the connection can still be ended, and every call has then settled once.
    conversation.connection.close(wait=False, now=conversation.hub.now)
    conversation.hub.pump()
    events = conversation.hub.events
    assert isinstance(events[-1], Closed)
    settled = [event.call.invocation_id for event in events if isinstance(event, Completed)]
    assert sorted(settled) == sorted(call.invocation_id for call in conversation.calls.values())


def test_no_flow_is_left_over() -> None:
    assert FLOWS.left_over() == set()
