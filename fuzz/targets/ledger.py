"""What two applications send each other by number, so that each can tell what was lost, came twice or out of order.

It gives the commands and judges the events of `joined`; how the bytes travel it does not know.
"""

from __future__ import annotations

from etorox_proto.signalr import (
    Call,
    CallCancelled,
    CallLost,
    CancelReceived,
    Completed,
    Connected,
    Detached,
    HubConnection,
    HubEvent,
    InvocationReceived,
    ItemReceived,
    ServerConnection,
    ServerEvent,
    Upload,
    UploadEnded,
    UploadItemReceived,
)

__all__ = ["Ledger"]


class Ledger:
    """What both applications have sent and received, by number."""

    def __init__(self) -> None:
        self.connected: set[object] = set()
        # What the client asked for, and what became of it.
        self.calls: list[Call] = []
        self.outcomes: dict[Call, Completed] = {}
        self.uploads: list[Upload] = []
        # What the server has seen of it: numbers in its order, what is open, and the ids of what it has completed.
        self.called: list[int] = []
        self.open: dict[str, InvocationReceived] = {}
        self.completed: set[str] = set()
        # How many items have been sent and received, by the id of their stream.
        self.given: dict[str, int] = {}
        self.taken: dict[str, int] = {}
        self.sent_up: dict[str, int] = {}
        self.received_up: dict[str, int] = {}
        self.ended_up: set[str] = set()
        # What the server asked the client for; None where it wanted no answer.
        self.questions: list[Call | None] = []
        self.asked: list[int] = []
        self.unanswered: list[tuple[str, int]] = []
        self.answers: dict[Call, Completed] = {}

    # --------------------------------------------------------------------------------------------- what is done

    def call(self, client: HubConnection, uploads: int, *, streaming: bool, now: float) -> None:
        """Call a method, with the number of the call for an argument."""
        number, make = len(self.calls), client.stream if streaming else client.invoke
        call = make("give", [number], uploads=uploads, now=now)
        self.calls.append(call)
        self.uploads += call.uploads

    def upload(self, client: HubConnection, which: int, *, now: float) -> None:
        """Give an upload its next item."""
        upload = self.uploads[which % len(self.uploads)]
        number = self.sent_up.get(upload.stream_id, 0)
        if upload.is_open and client.send_item(upload, number, now=now):
            self.sent_up[upload.stream_id] = number + 1

    def item(self, server: ServerConnection, which: int, *, now: float) -> None:
        """Give a stream that the client has asked for its next item."""
        streams = [invocation_id for invocation_id, call in self.open.items() if call.streaming]
        if streams:
            invocation_id = streams[which % len(streams)]
            number = self.given.get(invocation_id, 0)
            server.send_item(invocation_id, number, now=now)
            self.given[invocation_id] = number + 1

    def complete(self, server: ServerConnection, which: int, *, now: float) -> None:
        """Answer a call with its number, or end a stream."""
        if self.open:
            invocation_id = list(self.open)[which % len(self.open)]
            call = self.open[invocation_id]
            if call.streaming:
                server.complete(invocation_id, now=now)
            else:
                server.complete(invocation_id, result=call.arguments[0], now=now)
            del self.open[invocation_id]
            self.completed.add(invocation_id)

    def ask_client(self, server: ServerConnection, *, wants_answer: bool, now: float) -> None:
        """Call a method of the client's, with the number of the question for an argument."""
        number = len(self.questions)
        if wants_answer:
            self.questions.append(server.invoke("ask", [number], now=now))
        else:
            server.send("ask", [number], now=now)
            self.questions.append(None)

    def answer_server(self, client: HubConnection, *, now: float) -> None:
        """Answer the oldest question with its number."""
        if self.unanswered:
            invocation_id, number = self.unanswered[0]
            client.complete(invocation_id, result=number, now=now)
            del self.unanswered[0]

    # --------------------------------------------------------------------------------------------- what is told

    def told_client(self, event: HubEvent) -> None:
        """An event of the client's, which must be the next there can be."""
        match event:
            case ItemReceived(call, item):
                taken = self.taken.get(call.invocation_id, 0)
                assert call not in self.outcomes, "an item behind the end of its stream"
                assert item == taken < self.given[call.invocation_id], "items lost, repeated or out of order"
                self.taken[call.invocation_id] = taken + 1
            case Completed(call, result, error):
                assert call not in self.outcomes, "a call settled twice"
                self.outcomes[call] = event
                if error is None:
                    assert call.invocation_id in self.completed, "an outcome that nobody gave"
                    assert result == (None if call.streaming else self.calls.index(call))
                    assert self.taken.get(call.invocation_id) == self.given.get(call.invocation_id), "items lost"
                else:
                    assert isinstance(error, CallLost | CallCancelled), error
            case InvocationReceived(_, [number], invocation_id):
                assert number == len(self.asked), "questions lost, repeated or out of order"
                self.asked.append(number)
                if invocation_id is not None:
                    self.unanswered.append((invocation_id, number))
            case _:
                assert isinstance(event, Connected), event

    def told_server(self, server: ServerConnection, event: ServerEvent) -> None:
        """An event of a server's connection, which must be the next there can be."""
        match event:
            case Connected():
                self.connected.add(server)
            case InvocationReceived(_, [number], str(invocation_id)):
                assert number == len(self.called), "calls lost, repeated or out of order"
                assert self.calls[number].invocation_id == invocation_id
                self.called.append(number)
                self.open[invocation_id] = event
            case UploadItemReceived(stream_id, item):
                received = self.received_up.get(stream_id, 0)
                assert stream_id not in self.ended_up, "an item behind the end of its upload"
                assert item == received < self.sent_up[stream_id], "uploaded items lost, repeated or out of order"
                self.received_up[stream_id] = received + 1
            case UploadEnded(stream_id):
                assert stream_id not in self.ended_up, "an upload ended twice"
                self.ended_up.add(stream_id)
            case Completed(call, result, error):
                assert call not in self.answers, "a question settled twice"
                self.answers[call] = event
                assert isinstance(error, CallLost) if error is not None else self.questions[result] is call
            case _:
                assert isinstance(event, CancelReceived | Detached), event

    # ----------------------------------------------------------------------------------------- what must be true

    def check_complete(self, client: HubConnection) -> None:
        """Nothing is under way, and both are connected: then everything has arrived."""
        assert len(self.called) == len(self.calls)
        assert len(self.asked) == len(self.questions)
        for call in self.calls:
            if call not in self.outcomes:
                assert call.invocation_id not in self.completed
                assert self.taken.get(call.invocation_id) == self.given.get(call.invocation_id)
                for upload in call.uploads:
                    assert self.received_up.get(upload.stream_id) == self.sent_up.get(upload.stream_id)
        assert client.pending_calls == len(self.calls) - len(self.outcomes)

    def check_settled(self, client: HubConnection) -> None:
        """After the end each call has its one outcome, and what was never sent has never been seen."""
        assert client.pending_calls == 0
        assert self.outcomes.keys() == set(self.calls)
        assert self.answers.keys() == {call for call in self.questions if call is not None}
        for number, call in enumerate(self.calls):
            error = self.outcomes[call].error
            if isinstance(error, CallLost) and error.delivery == "not_sent":
                assert number not in self.called, "a call that was not sent has been seen"
