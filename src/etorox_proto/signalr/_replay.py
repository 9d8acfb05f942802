"""`Replay`: the arithmetic of stateful reconnect, and the buffer of what may have to be sent again.

Both sides number what they send, from 1 and without gaps, over the whole connection; the numbers do not travel. This
module counts in both directions, keeps encoded records until the peer has acknowledged them, tells what is to be sent
again on a fresh stream, and which of the received messages are duplicates. It knows no WebSocket, no encoding, no time
and no state: `Machine` owns one for each connection on which both sides agreed to resume.

Source: SignalR specification, section 16.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from etorox_proto.signalr._errors import RemoteProtocolError

__all__ = ["Replay"]


class _Kept(NamedTuple):
    record: bytes
    is_answer: bool


class Replay:
    """What one side of a connection has sent and received, by number.

    Attributes:
        held_bytes: bytes of the records that wait for the peer's acknowledgement.
        answer_bytes: those of them that we sent of ourselves, because the peer made us.
        is_aligned: whether the numbers of what comes are known. Not so from `begin_again` to the peer's Sequence.
    """

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque()
        self._acknowledged = 0  # the highest number of ours that the peer has
        self._received = 0  # the highest number of the peer's that we have
        self._next = 1  # the number of the message that comes next
        self._told = 0  # the highest number that we have acknowledged
        self.held_bytes = 0
        self.answer_bytes = 0
        self.is_aligned = True

    # ------------------------------------------------------------------------------------------------ what we send

    def keep(self, record: bytes, *, is_answer: bool = False) -> None:
        """Give the next number to a record, and hold it until it is acknowledged."""
        self._kept.append(_Kept(record, is_answer))
        self.held_bytes += len(record)
        self.answer_bytes += len(record) * is_answer

    def receive_ack(self, number: int) -> None:
        """The peer has everything up to this number; what it has said before is no news.

        Raises:
            RemoteProtocolError: that number was never sent.
        """
        sent = self._acknowledged + len(self._kept)
        if number > sent:
            raise RemoteProtocolError(f"an Ack of at most {sent}, the number of the last message", str(number))
        while self._acknowledged < number:
            record, is_answer = self._kept.popleft()
            self._acknowledged += 1
            self.held_bytes -= len(record)
            self.answer_bytes -= len(record) * is_answer

    def begin_again(self) -> tuple[int, list[bytes]]:
        """A fresh stream begins; what comes on it counts from the peer's Sequence on.

        Returns:
            The number for our own Sequence, and the records that follow it.
        """
        self.is_aligned = False
        return self._acknowledged + 1, [record for record, _ in self._kept]

    # --------------------------------------------------------------------------------------------- what we receive

    def receive(self) -> bool:
        """A message that counts has come; whether it is new. What comes before the Sequence is not."""
        if not self.is_aligned:
            return False
        number = self._next
        self._next += 1
        if number <= self._received:
            return False
        self._received = number
        return True

    @property
    def expects_news(self) -> bool:
        """Whether the next message that counts is certainly new, and so are those behind it."""
        return self.is_aligned and self._next > self._received

    def receive_news(self, count: int) -> None:
        """So many messages that count have come. Only while it `expects_news`."""
        self._next += count
        self._received = self._next - 1

    def receive_sequence(self, number: int) -> None:
        """The peer says which number the message has that comes next.

        Raises:
            RemoteProtocolError: it leaves messages out, or is no such number.
        """
        if not 1 <= number <= self._received + 1:
            raise RemoteProtocolError(f"a Sequence from 1 to {self._received + 1}, the first not received", str(number))
        self._next = number
        # What the peer still keeps it has no Ack for: ours may have been lost with the old stream.
        self._told = number - 1
        self.is_aligned = True

    @property
    def owes_ack(self) -> bool:
        """Whether something has come that was not acknowledged."""
        return self._told < self._received

    def acknowledge(self) -> int:
        """The number for an Ack that is sent now."""
        self._told = self._received
        return self._told
