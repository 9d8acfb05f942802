"""A hub and a server in any weather: calls, uploads, answers, faults, time, chunks in any order; both must agree.

Hypothesis draws the rules; the model beside the machines remembers what was asked and what was answered. Whatever
happens, every call settles exactly once, its items come in order and before its end, and what it settles with is what
the server said, unless the connection ended or the application cancelled. Where both sides have agreed to resume, the
stream breaks again and again, anywhere, with or without the server's knowledge, and all of that holds as if it had not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etorox_proto.signalr import (
    Call,
    CallCancelled,
    CallLost,
    CancelReceived,
    Closed,
    Completed,
    Connected,
    ConnectionTokens,
    Detached,
    Dial,
    HubConfig,
    HubConnection,
    HubError,
    InvocationReceived,
    ItemReceived,
    Resumed,
    ServerConfig,
    ServerConnection,
    State,
    Upload,
    UploadEnded,
    UploadItemReceived,
)
from machines import names, take

amounts = st.integers(1, 400) | st.just(1_000)
numbers = st.integers(-(2**63), 2**64 - 1)
picks = st.integers(0, 10)

# Where commands are accepted.
LIVE = {State.CONNECTED, State.RESUMING}


class Agreement(RuleBasedStateMachine):
    """One hub, the servers that it dials, and the wires between them, which hold bytes for as long as they like."""

    @initialize(
        encoding=st.sampled_from(["json", "messagepack"]),
        opening=st.sampled_from(["skipped", "negotiated", "resumable", "resumable"]),
        well_begun=st.integers(0, 4),
        patience=st.integers(0, 8) | st.integers(9, 60),
    )
    def begin(self, encoding: Literal["json", "messagepack"], opening: str, well_begun: int, patience: int) -> None:
        self.patience = patience  # how much is to be asked before somebody ends it
        self.now = 0.0
        self.tokens = ConnectionTokens(names())
        config = HubConfig(
            url="http://localhost/hub",
            encoding=encoding,
            skip_negotiation=opening == "skipped",
            stateful_reconnect=opening == "resumable",
            handles={"question"},
        )
        self.client = HubConnection(config, now=self.now)
        self.server: ServerConnection | None = None
        self.arrival: ServerConnection | None = None  # at the end of a stream on which the client comes back
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.calls: dict[str, Call] = {}
        self.asked: list[tuple[str, int]] = []
        self.heard: list[tuple[str, int]] = []
        self.items_sent: dict[str, list[int]] = {}
        self.items_received: dict[str, list[int]] = {}
        self.answers: dict[str, Any] = {}
        self.outcomes: dict[str, Completed] = {}
        self.open_on_server: list[InvocationReceived] = []
        self.questions: dict[str, Call] = {}
        self.posed: list[tuple[str, int]] = []
        self.understood: list[tuple[str, int]] = []
        self.open_on_client: list[str] = []
        self.replies: dict[str, Any] = {}
        self.replied: dict[str, Completed] = {}
        self.uploads: dict[str, Upload] = {}
        self.call_of: dict[str, str | None] = {}  # the call of each upload, where it wants an answer
        self.uploaded: dict[str, list[int]] = {}
        self.ends: dict[str, str | None] = {}
        self.arrived: dict[str, list[int]] = {}
        self.arrived_ends: dict[str, str | None] = {}
        self.client_closings = self.server_closings = 0
        self.was_cut = False
        self.settle()
        if well_begun:
            self.carry_everything()
            assert self.client.state is State.CONNECTED

    # ------------------------------------------------------------------------------------------------- the wires

    def settle(self) -> None:
        """Flush both sides onto the wires and look at what they tell."""
        for event in take(self.client):
            assert not self.client_closings, "nothing comes after Closed"
            self.tell_client(event)
        self.to_server += self.client.data_to_send()
        if self.arrival is not None:
            if self.server is not None:
                self.server.data_to_send()  # on a stream that the client has given up
            for event in take(self.arrival):
                if isinstance(event, Resumed):
                    self.resume(event.connection, self.arrival)
            if self.arrival is not None:
                self.to_client += self.arrival.data_to_send()
        if self.server is not None:
            self.take_from_server(self.server)
            if self.arrival is None:
                self.to_client += self.server.data_to_send()

    def take_from_server(self, server: ServerConnection) -> None:
        for event in take(server):
            assert not self.server_closings, "nothing comes after Closed"
            self.tell_server(event)

    def resume(self, server: ServerConnection, arrival: ServerConnection) -> None:
        assert server is self.server
        server.receive_data(b"", self.now)
        self.take_from_server(server)
        server.resume(arrival, now=self.now)
        self.arrival = None

    def tell_client(self, event: Any) -> None:
        match event:
            case Dial():
                machine = ServerConnection(ServerConfig(stateful_reconnect=True), tokens=self.tokens, now=self.now)
                if self.client.state is State.RESUMING:
                    self.arrival = machine
                else:
                    self.server, self.server_closings = machine, 0
                self.to_server.clear()
                self.to_client.clear()
                self.client.stream_opened(self.now)
            case ItemReceived(call, item):
                assert call.invocation_id not in self.outcomes
                self.items_received[call.invocation_id].append(item)
            case Completed(call):
                assert call.invocation_id not in self.outcomes
                self.outcomes[call.invocation_id] = event
            case InvocationReceived(target, arguments, invocation_id):
                self.understood.append((target, arguments[0]))
                assert target != "riddle" or invocation_id is None
                if invocation_id is not None:
                    self.open_on_client.append(invocation_id)
            case Closed():
                self.client_closings += 1
                self.open_on_client.clear()
            case Connected():
                pass
            case _:
                raise AssertionError(event)

    def tell_server(self, event: Any) -> None:
        match event:
            case InvocationReceived(target, arguments, invocation_id):
                self.heard.append((target, arguments[0]))
                for stream_id in event.uploads:
                    assert self.call_of[stream_id] == invocation_id
                    self.arrived[stream_id] = []
                if invocation_id is not None:
                    self.open_on_server.append(event)
            case UploadItemReceived(stream_id, item):
                assert stream_id not in self.arrived_ends, "nothing comes after the end"
                assert self.call_of[stream_id] not in self.answers, "nobody takes items any more"
                self.arrived[stream_id].append(item)
            case UploadEnded(stream_id, error):
                assert stream_id not in self.arrived_ends, "an upload ends once"
                assert self.call_of[stream_id] not in self.answers, "nobody waits for the end any more"
                self.arrived_ends[stream_id] = error
            case CancelReceived(invocation_id):
                assert isinstance(self.outcomes[invocation_id].error, CallCancelled)
            case Completed(call):
                assert call.invocation_id not in self.replied
                self.replied[call.invocation_id] = event
            case Closed():
                self.server_closings += 1
                self.open_on_server.clear()
            case Connected() | Detached():
                pass
            case _:
                raise AssertionError(event)

    @precondition(lambda self: self.to_server)
    @rule(amount=amounts)
    def carry_to_server(self, amount: int) -> None:
        piece, self.to_server[:amount] = bytes(self.to_server[:amount]), b""
        machine = self.arrival or self.server
        if piece and machine is not None:
            machine.receive_data(piece, self.now)
            self.settle()

    @precondition(lambda self: self.to_client)
    @rule(amount=amounts)
    def carry_to_client(self, amount: int) -> None:
        piece, self.to_client[:amount] = bytes(self.to_client[:amount]), b""
        if piece:
            self.client.receive_data(piece, self.now)
            self.settle()

    @precondition(lambda self: self.to_server or self.to_client)
    @rule()
    def carry_everything(self) -> None:
        while self.to_server or self.to_client:
            self.carry_to_server(1_000_000)
            self.carry_to_client(1_000_000)

    @precondition(lambda self: self.to_server)
    @rule()
    def carry_all_to_server(self) -> None:
        self.carry_to_server(1_000_000)

    @rule(seconds=st.floats(0, 6), all_of_it=st.integers(0, 5))
    def let_time_pass(self, seconds: float, all_of_it: int) -> None:
        """Some way to the next deadline, seldom all of it."""
        machines = [machine for machine in (self.client, self.server, self.arrival) if machine is not None]
        due = min(machine.deadline for machine in machines)
        if due <= self.now + (60 if all_of_it == 5 else seconds):
            seconds = max(0.0, due - self.now)
        self.now += seconds
        for machine in machines:
            machine.handle_timeout(self.now)
        self.settle()

    @precondition(lambda self: self.server is not None and self.client.state is State.CONNECTED)
    @rule(up=amounts, down=amounts, is_known=st.booleans(), comes_back=st.booleans())
    def break_off(self, up: int, down: int, is_known: bool, comes_back: bool) -> None:
        """The stream of a connection that can be resumed breaks; any part of what is under way arrives."""
        if self.server is None or not self.client.is_stateful:
            return
        self.carry_to_server(up)
        self.carry_to_client(down)
        if self.client_closings:
            return  # what had been under way was a goodbye
        self.to_server.clear()
        self.to_client.clear()
        if is_known:
            self.server.receive_data(b"", self.now)
        self.client.receive_data(b"", self.now)
        self.settle()
        assert self.client.state is State.RESUMING
        if comes_back:
            self.carry_everything()

    @precondition(lambda self: len(self.asked) >= self.patience and self.server is not None and not self.was_cut)
    @rule(keep=st.booleans())
    def cut(self, keep: bool) -> None:
        """The stream breaks; what was under way arrives or does not."""
        if keep:
            self.carry_everything()
        self.was_cut = True
        assert self.server is not None
        self.to_server.clear()
        self.to_client.clear()
        self.server.receive_data(b"", self.now)
        self.client.receive_data(b"", self.now)
        self.settle()
        if not self.client.is_stateful:
            self.to_server.clear()
            self.to_client.clear()

    # -------------------------------------------------------------------------------------------------- dense lives

    def act(self, what: str, pick: int, number: int, well: bool, uploads: int, through: int) -> None:
        """One of the things below, and perhaps its way to the other side, in whole or in small pieces."""
        match what:
            case "call":
                self.call(streaming=well, number=number, uploads=uploads)
            case "upload" if self.uploads:
                self.upload(pick, number)
            case "end" if self.uploads:
                self.end_upload(pick, number, well)
            case "complete":
                self.complete(pick, number, well)
            case "item":
                self.give_item(pick, number)
            case "pose" if self.server is not None and self.server.state in LIVE:
                self.pose(number, "question" if well else "riddle")
            case "reply" if self.open_on_client:
                self.reply(pick, number, well)
            case "cancel" if self.calls:
                self.cancel(pick)
            case "withdraw" if self.questions:
                self.withdraw(pick)
            case "break" if self.client.state is State.CONNECTED:
                self.break_off(through + pick, through // 2 + pick, well, number % 2 == 0)
            case "wait":
                self.let_time_pass(pick / 5, 0)
            case _:
                pass
        for _ in range(1 if through < 1_000 else 50):
            self.carry_to_server(through)
            self.carry_to_client(through // 2)

    # ---------------------------------------------------------------------------------------------- what is asked

    @precondition(lambda self: self.client.state in LIVE)
    @rule(streaming=st.booleans(), number=numbers, uploads=st.sampled_from([0, 0, 1, 2]))
    def call(self, streaming: bool, number: int, uploads: int) -> None:
        ask = self.client.stream if streaming else self.client.invoke
        call = ask("method", [number], uploads=uploads, now=self.now)
        assert len(call.uploads) == uploads
        self.begin_uploads(call.uploads, call.invocation_id)
        self.calls[call.invocation_id] = call
        self.items_sent[call.invocation_id] = []
        self.items_received[call.invocation_id] = []
        self.asked.append(("method", number))
        self.settle()

    @precondition(lambda self: self.client.state in LIVE)
    @rule(number=numbers, uploads=st.sampled_from([0, 0, 0, 1]))
    def send(self, number: int, uploads: int) -> None:
        self.begin_uploads(self.client.send("tell", [number], uploads=uploads, now=self.now), None)
        self.asked.append(("tell", number))
        self.settle()

    def begin_uploads(self, uploads: Iterable[Upload], call: str | None) -> None:
        for upload in uploads:
            assert upload.stream_id not in {*self.uploads, *self.calls}
            self.uploads[upload.stream_id] = upload
            self.call_of[upload.stream_id] = call
            self.uploaded[upload.stream_id] = []

    @precondition(lambda self: self.uploads and self.client.state in LIVE)
    @rule(pick=picks, number=numbers)
    def upload(self, pick: int, number: int) -> None:
        upload = list(self.uploads.values())[pick % len(self.uploads)]
        if upload.is_ended:
            return
        wanted = self.call_of[upload.stream_id] not in self.outcomes
        assert self.client.send_item(upload, number, now=self.now) == wanted == upload.is_open
        if wanted:
            self.uploaded[upload.stream_id].append(number)
        self.settle()

    @precondition(lambda self: self.uploads and self.client.state in LIVE)
    @rule(pick=picks, number=numbers, well=st.booleans())
    def end_upload(self, pick: int, number: int, well: bool) -> None:
        upload = list(self.uploads.values())[pick % len(self.uploads)]
        if upload.is_ended:
            return
        wanted, error = upload.is_open, None if well else str(number)
        self.client.end_upload(upload, error=error, now=self.now)
        if wanted:
            self.ends[upload.stream_id] = error
        self.settle()

    @precondition(lambda self: self.calls)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        call = list(self.calls.values())[pick % len(self.calls)]
        settled = self.outcomes.get(call.invocation_id)
        self.client.cancel(call, now=self.now)
        self.settle()
        outcome = self.outcomes[call.invocation_id]
        assert outcome is settled if settled is not None else isinstance(outcome.error, CallCancelled)

    @precondition(lambda self: len(self.asked) >= self.patience)
    @rule(wait=st.booleans())
    def close(self, wait: bool) -> None:
        self.client.close(wait=wait, now=self.now)
        self.settle()
        assert self.client.pending_calls == 0

    # ------------------------------------------------------------------------------------------- what is answered

    def answerable(self, pick: int) -> InvocationReceived | None:
        if self.server is None or self.server.state not in LIVE or not self.open_on_server:
            return None
        return self.open_on_server[pick % len(self.open_on_server)]

    @precondition(lambda self: self.answerable(0) is not None)
    @rule(pick=picks, number=numbers, well=st.booleans())
    def complete(self, pick: int, number: int, well: bool) -> None:
        asked = self.answerable(pick)
        if asked is None or self.server is None or asked.invocation_id is None:
            return
        if not well:
            self.server.complete(asked.invocation_id, error=str(number), now=self.now)
        elif asked.streaming:
            self.server.complete(asked.invocation_id, now=self.now)
        else:
            self.server.complete(asked.invocation_id, result=number, now=self.now)
        self.answers[asked.invocation_id] = (well, None if asked.streaming else number, str(number))
        self.open_on_server.remove(asked)
        self.settle()

    @precondition(lambda self: self.answerable(0) is not None)
    @rule(pick=picks, number=numbers)
    def give_item(self, pick: int, number: int) -> None:
        asked = self.answerable(pick)
        if asked is not None and asked.streaming and self.server is not None and asked.invocation_id is not None:
            self.server.send_item(asked.invocation_id, number, now=self.now)
            self.items_sent[asked.invocation_id].append(number)
            self.settle()

    # -------------------------------------------------------------------------------- what the server asks in turn

    @precondition(lambda self: self.server is not None and self.server.state in LIVE)
    @rule(number=numbers, kind=st.sampled_from(["question", "question", "riddle", "news"]))
    def pose(self, number: int, kind: str) -> None:
        """The server asks for what the client handles, or for what it does not, or wants no answer."""
        assert self.server is not None
        if kind == "news":
            self.server.send(kind, [number], now=self.now)
        else:
            call = self.server.invoke(kind, [number], now=self.now)
            self.questions[call.invocation_id] = call
            if kind == "riddle":
                self.replies[call.invocation_id] = (False, None, "Client didn't provide a result.")
        self.posed.append((kind, number))
        self.settle()

    @precondition(lambda self: self.open_on_client and self.client.state in LIVE)
    @rule(pick=picks, number=numbers, well=st.booleans())
    def reply(self, pick: int, number: int, well: bool) -> None:
        question = self.open_on_client.pop(pick % len(self.open_on_client))
        if well:
            self.client.complete(question, result=number, now=self.now)
        else:
            self.client.complete(question, error=str(number), now=self.now)
        self.replies[question] = (well, number, str(number))
        self.settle()

    @precondition(lambda self: self.questions)
    @rule(pick=picks)
    def withdraw(self, pick: int) -> None:
        assert self.server is not None
        question = list(self.questions.values())[pick % len(self.questions)]
        settled = self.replied.get(question.invocation_id)
        self.server.cancel(question, now=self.now)
        self.settle()
        reply = self.replied[question.invocation_id]
        assert reply is settled if settled is not None else isinstance(reply.error, CallCancelled)

    @precondition(lambda self: len(self.asked) >= self.patience and self.server is not None)
    @rule(again=st.booleans())
    def hang_up(self, again: bool) -> None:
        assert self.server is not None
        self.server.close(error="enough", allow_reconnect=again, now=self.now)
        self.settle()

    # ------------------------------------------------------------------------------------------------ what is true

    @invariant()
    def both_agree(self) -> None:
        assert self.heard == self.asked[: len(self.heard)], "the server hears what was asked, in order"
        for invocation_id, received in self.items_received.items():
            sent = self.items_sent[invocation_id]
            assert received == sent[: len(received)], "items come in order"
        assert self.client.pending_calls == len(self.calls) - len(self.outcomes)
        for invocation_id, outcome in self.outcomes.items():
            if not isinstance(outcome.error, CallCancelled | CallLost):
                assert self.items_received[invocation_id] == self.items_sent[invocation_id], "no item is lost"
                self.check_outcome(outcome, *self.answers[invocation_id])
        for stream_id, arrived in self.arrived.items():
            sent = self.uploaded[stream_id]
            assert arrived == sent[: len(arrived)], "what is uploaded arrives in order"
            if stream_id in self.arrived_ends:
                assert arrived == sent, "nothing uploaded is lost"
                given_up = stream_id not in self.ends
                expected = "The call was given up by the client." if given_up else self.ends[stream_id]
                assert self.arrived_ends[stream_id] == expected
                if given_up:
                    assert isinstance(self.outcomes[self.call_of[stream_id] or ""].error, CallCancelled)
        assert self.understood == self.posed[: len(self.understood)], "the client hears what was posed, in order"
        if self.questions:
            assert self.server is not None
            assert self.server.pending_calls == len(self.questions) - len(self.replied)
        for invocation_id, outcome in self.replied.items():
            if not isinstance(outcome.error, CallCancelled | CallLost):
                self.check_outcome(outcome, *self.replies[invocation_id])

    def check_outcome(self, outcome: Completed, well: bool, result: int | None, text: str) -> None:
        if well:
            assert (outcome.result, outcome.error) == (result, None)
        else:
            assert isinstance(outcome.error, HubError)
            assert str(outcome.error) == text

    def check_the_quiet(self) -> None:
        """Everything has arrived: nothing that one side said is unknown to the other."""
        if self.server is None or not self.client.state is self.server.state is State.CONNECTED:
            return
        assert self.heard == self.asked
        assert self.understood == self.posed
        assert set(self.answers) <= set(self.outcomes)
        assert set(self.replies) <= set(self.replied)
        for stream_id, upload in self.uploads.items():
            call = self.call_of[stream_id]
            if call not in self.answers:
                assert self.arrived[stream_id] == self.uploaded[stream_id]
                assert (stream_id in self.arrived_ends) == (not upload.is_open)

    def teardown(self) -> None:
        """Let everything arrive, then end: nothing may be left pending anywhere."""
        if not hasattr(self, "client"):
            return
        self.carry_everything()
        self.check_the_quiet()
        self.client.close(now=self.now)
        self.settle()
        self.carry_everything()
        self.now += 100
        self.client.handle_timeout(self.now)
        self.settle()
        if self.server is not None:
            self.server.receive_data(b"", self.now)
            self.server.handle_timeout(self.now + 100)  # nobody comes back
            self.settle()
            assert self.server_closings == 1
        assert self.client_closings == 1
        assert set(self.outcomes) == set(self.calls)
        assert set(self.replied) == set(self.questions)
        assert not any(upload.is_open for upload in self.uploads.values())
        self.both_agree()
        assert len(self.tokens) == 0, "no connection stays attached"


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(max_examples=150, stateful_step_count=60)


CALLS = ["call", "call", "upload", "upload", "end", "complete", "item", "item", "pose", "reply", "cancel", "withdraw"]
KINDS = ["break", "wait", *CALLS]


@settings(max_examples=150)
@given(
    encoding=st.sampled_from(["json", "messagepack"]),
    opening=st.sampled_from(["skipped", "resumable"]),
    seed=st.integers(0, 2**32),
    length=st.integers(1, 150),
)
def test_both_agree_on_a_busy_connection(
    encoding: Literal["json", "messagepack"], opening: str, seed: int, length: int
) -> None:
    """Long lives, drawn from a seed: what the rules above reach seldom, since most lives end early.

    No fault ends them; where both sides have agreed to resume, there are faults all the time.
    """
    source = random.Random(seed)
    both = Agreement()
    both.begin(encoding=encoding, opening=opening, well_begun=1, patience=0)
    for _ in range(length):
        both.act(
            source.choice(KINDS),
            pick=source.randrange(11),
            number=source.randrange(-(2**63), 2**64),
            well=source.random() < 0.7,
            uploads=source.randrange(3),
            through=source.choice([0, 1, 40, 200, 1_000]),
        )
        both.both_agree()
    both.teardown()
