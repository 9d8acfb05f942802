"""`Subject`: what a checker has to know of a machine beyond its four families of methods.

Every member has a default that fits the machines of this project, and those that name events and states as these do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from etorox_proto import SubscriptionEnded
from etorox_proto.signalr import Completed, LocalProtocolError
from etorox_proto.testing._steps import Step
from etorox_proto.testing.laws._picture import look, picture

__all__ = ["Application", "Machine", "Subject"]


class Machine(Protocol):
    """What every machine has. One that dials has `stream_opened(now)` as well."""

    @property
    def deadline(self) -> float:
        """When time has to be told, `math.inf` for never."""
        ...

    def receive_data(self, data: bytes, now: float, /) -> object:
        """Bytes came; none: the stream ended."""
        ...

    def handle_timeout(self, now: float, /) -> object:
        """The deadline came."""
        ...

    def data_to_send(self) -> bytes:
        """What is to be sent."""
        ...

    def next_event(self) -> Any:
        """The next event, None for none."""
        ...


class Application(Protocol):
    """What a command has to work with."""

    @property
    def machine(self) -> Any:
        """The machine."""
        ...

    @property
    def now(self) -> float:
        """The time, in seconds."""
        ...

    @property
    def events(self) -> Sequence[Any]:
        """All events so far."""
        ...

    @property
    def calls(self) -> Sequence[Any]:
        """All calls so far: what commands have returned."""
        ...


def _is_dial(event: Any) -> bool:
    """Whether its type is named so."""
    return type(event).__name__ == "Dial"


def _is_closed(event: Any) -> bool:
    """Whether its type is named so."""
    return type(event).__name__ == "Closed"


def _is_over(machine: Any) -> bool:
    """Whether its state is named so."""
    state = machine.state
    return str(getattr(state, "name", state)).lower() == "closed"


def _about(event: Any) -> tuple[Hashable, bool] | None:
    """The event's `call` or `subscription`."""
    call = getattr(event, "call", None) or getattr(event, "subscription", None)
    return None if call is None else (call, isinstance(event, Completed | SubscriptionEnded))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A machine to be tested, and how to do that.

    Attributes:
        factory: makes a fresh machine at a time; with nothing else given, this is all that is needed.
        says: what its peer may say, well and badly, by name. A function makes the bytes of those that the machine has
            sent on this stream so far.
        opening: the steps that bring it to where commands are accepted. Histories often begin so.
        commands: what the application may ask, by name: a function of an `Application` and a number from 0 to 400 that
            picks the arguments, good and bad. What it returns, unless None, is a call that has to be settled.
        refusals: what a refused command raises.
        is_dial: whether an event asks for a stream.
        is_closed: whether an event is the last.
        is_over: whether the machine says that it has ended.
        about: which call an event is about, and whether it settles it; None for other events.
        look: all that anyone can see of a machine, comparable.
        picture: an event, comparable between two runs; leave out words that depend on how bytes were cut.
        sent: bytes that were sent, comparable between two runs; `len` for a machine that masks them at random.
        memory: how many bytes it may hold, at most, beyond what it holds at its beginning.
        noise: how long the meaningless pieces may be that a peer says, in bytes.
    """

    factory: Callable[[float], Machine]
    says: Mapping[str, bytes | Callable[[bytes], bytes]] = field(default_factory=lambda: MappingProxyType({}))
    opening: Sequence[Step] = ()
    commands: Mapping[str, Callable[[Application, int], Hashable | None]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    refusals: tuple[type[Exception], ...] = (LocalProtocolError,)
    is_dial: Callable[[Any], bool] = _is_dial
    is_closed: Callable[[Any], bool] = _is_closed
    is_over: Callable[[Any], bool] = _is_over
    about: Callable[[Any], tuple[Hashable, bool] | None] = _about
    look: Callable[[Any], object] = look
    picture: Callable[[Any], object] = picture
    sent: Callable[[bytes], object] = bytes
    memory: int = 1 << 20
    noise: int = 60
