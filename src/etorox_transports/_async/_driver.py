"""`Driver`: the tasks of one client, from the moment it is entered to the moment it has left nothing behind.

The tasks run in a nursery (task group) of the task that entered, but each in a shielded scope of its own. So what
cancels the application's code does not reach them before `leave` does, and they never raise: neither a cancellation nor
an error of theirs gets into the nursery, and what the application raises is never wrapped in a group. An error, which
could only be a fault of ours or of a hook, is kept and raised where the application reads.

`SessionDriver` in `_exchange` and `HubDriver` in `_hub` say what runs and what its events mean.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from etorox_proto import LocalProtocolError
from etorox_transports._async._backend import Backend, Scope
from etorox_transports._async._feed import Consumers, Inbox
from etorox_transports._async._lane import wait_until

__all__ = ["Driver", "not_entered"]

# What leaving may take beyond the time that the peer has for its goodbye, in seconds.
_GRACE = 1.0


def not_entered() -> LocalProtocolError:
    """The error of a command that comes before `async with`."""
    return LocalProtocolError("expected a client that was entered, got a new one; use it with `async with`")


class Driver(abc.ABC):
    """What a client has running in the background.

    Args:
        backend: the library.
        close_timeout: how many seconds the peer has for its goodbye.
        wait: whether entering takes until it is open.

    Attributes:
        consumers: who reads what comes.
        error: why it ended, once it has.
        has_ended: whether the last event has come.
    """

    def __init__(self, backend: Backend, *, close_timeout: float, wait: bool) -> None:
        self.consumers = Consumers(backend)
        self.error: Exception | None = None
        self.has_ended = False
        self._backend = backend
        self._wait = wait
        self._patience = close_timeout + _GRACE
        self._manager: AbstractAsyncContextManager[Any] | None = None
        self._tasks: Any = None
        self._scopes: set[Scope] = set()
        self._running = 0
        self._is_idle = backend.new_event()
        self._is_open = backend.new_event()
        self._crash: Exception | None = None
        self._is_settling = False
        self._is_unsettled = False
        self._is_let_go = False

    # ------------------------------------------------------------------------------------------- entering, leaving

    async def enter(self) -> None:
        """Begin, and wait until it is open if so wished.

        Raises:
            ConnectionFailed: it could not be opened. Nothing is left.
        """
        if self._manager is not None:
            raise LocalProtocolError("expected a new client, got one that was entered before; connect again")
        self._manager = self._backend.new_tasks()
        self._tasks = await self._manager.__aenter__()
        try:
            self._begin()
            if self._wait:
                await self._is_open.wait()
                self._raise_if_not_open()
        except BaseException:
            await self._drop()
            raise

    async def leave(self, error: BaseException | None) -> None:
        """End, whatever the state. What the application raised decides how: a cancelled one says no goodbye."""
        try:
            if not isinstance(error, self._backend.cancelled):
                await self.close()
        except self._backend.cancelled:
            if error is None:
                raise
            # What the application raised tells more; and whoever cancels will not be waited for any longer.
        finally:
            await self._drop()
        if error is None and self._crash is not None:
            raise self._crash

    async def close(self) -> None:
        """Say goodbye and wait for the answer, but not for long. May be called at any time, by several tasks."""
        if self._manager is None:
            return
        self._say_goodbye(wait=True)
        if self._running:
            await wait_until(self._backend, self._is_idle, self._backend.now() + self._patience)
        if self._running:
            self._let_go()
            await self._wait_for_tasks()

    async def _drop(self) -> None:
        """Drop every stream at once, and wait for the tasks to notice."""
        assert self._manager is not None, "only what was entered is left"
        try:
            self._let_go()
            await self._wait_for_tasks()
        finally:
            try:
                await self._manager.__aexit__(None, None, None)
            except BaseExceptionGroup as group:
                # A KeyboardInterrupt or the like that hit one of our tasks.
                raise (group.exceptions[0] if len(group.exceptions) == 1 else group) from None

    def _let_go(self) -> None:
        self._is_let_go = True
        for scope in list(self._scopes):
            scope.cancel()
        try:
            self._say_goodbye(wait=False)
        finally:
            self._finish(self._crash)

    async def _wait_for_tasks(self) -> None:
        if self._running:
            with self._backend.new_scope(shield=True):
                await self._is_idle.wait()

    # -------------------------------------------------------------------------------------------------------- tasks

    def _start(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        assert self._tasks is not None, "tasks run after entering"
        self._running += 1

        async def guarded() -> None:
            try:
                with self._backend.new_scope(shield=True) as scope:
                    self._scopes.add(scope)
                    try:
                        if not self._is_let_go:
                            await run()
                    except Exception as error:  # noqa: BLE001 - told where the application reads
                        self._crashed(error)
                    finally:
                        self._scopes.discard(scope)
            finally:
                self._running -= 1
                if not self._running:
                    self._is_idle.set()

        self._backend.start(self._tasks, guarded, name)

    def _crashed(self, error: Exception) -> None:
        self._crash = self._crash or error
        self._finish(error)
        self._let_go()

    # ------------------------------------------------------------------------------------------------------- events

    def settle(self) -> None:
        """Something was told to a machine or the session: go on until nobody has anything to say any more."""
        self._is_unsettled = True
        if self._is_settling:
            return  # a command from inside a function that makes keys; the loop below sees what follows from it
        self._is_settling = True
        try:
            while self._is_unsettled:
                self._is_unsettled = False
                if self._step():
                    self._is_unsettled = True
        finally:
            self._is_settling = False
        self._nudge()

    def _finish(self, error: Exception | None) -> None:
        """It has ended, for this reason."""
        if not self.has_ended:
            self.has_ended = True
            self.error = error
        self._is_open.set()
        for inbox in self._inboxes():
            inbox.finish(error)

    @abc.abstractmethod
    def _begin(self) -> None:
        """Start what runs."""

    @abc.abstractmethod
    def _step(self) -> bool:
        """Take what the machines have to tell, and do it.

        Returns whether something may follow from that, as nothing does from events that were put into feeds.
        """

    @abc.abstractmethod
    def _nudge(self) -> None:
        """Wake the tasks that have something to do now."""

    @abc.abstractmethod
    def _say_goodbye(self, *, wait: bool) -> None:
        """Ask for the end, and settle."""

    @abc.abstractmethod
    def _raise_if_not_open(self) -> None:
        """Raise the reason if it could not be opened."""

    @abc.abstractmethod
    def _inboxes(self) -> list[Inbox]:
        """Where events wait, or tasks for events."""
