"""`Answers`: the tasks that wait for the outcome of a call of theirs, on either side of a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from etorox_proto.signalr import Call, Completed
from etorox_transports._async._backend import Backend, Event
from etorox_transports._async._lane import wait_until

__all__ = ["Answers"]


class _Answer:
    """What a task waits for that has called a method."""

    def __init__(self, event: Event) -> None:
        self.has_come = event
        self.completed: Completed | None = None


@final
class Answers:
    """Who waits for which call.

    Args:
        backend: the library.
        settle: to be called after a command.
        cancel: stops waiting for a call, in the machine.
    """

    def __init__(self, backend: Backend, settle: Callable[[], None], cancel: Callable[[Call], None]) -> None:
        self._backend = backend
        self._settle = settle
        self._cancel = cancel
        self._waiting: dict[Call, _Answer] = {}

    async def wait(self, call: Call, until: float) -> Completed:
        """Wait for the outcome of a call that was just made.

        Raises:
            TimeoutError: it has not come in time. The call is then cancelled, as it is when the task is.
        """
        self._waiting[call] = answer = _Answer(self._backend.new_event())
        try:
            self._settle()
            await wait_until(self._backend, answer.has_come, until)
        finally:
            del self._waiting[call]
            if answer.completed is None:
                self._cancel(call)
                self._settle()
        if answer.completed is None:
            raise TimeoutError(f"{call.target} was not answered in time")
        return answer.completed

    def take(self, completed: Completed) -> bool:
        """The outcome of a call; whether anybody waits for it."""
        answer = self._waiting.get(completed.call)
        if answer is None:
            return False
        answer.completed = completed
        answer.has_come.set()
        return True
