"""`Task`: what one run of the benchmarks sends and measures; handed as JSON to the sender and to the receiver.

The peers' receivers import this module, so it needs the standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Literal, Self

__all__ = ["Encoding", "Measure", "Shape", "Task"]

# `full`: the documented sample event; `row`: some of its fields; `sized`: a row as long as wanted.
Shape = Literal["full", "row", "sized"]
Encoding = Literal["json", "messagepack"]
# `throughput`: processor time of many events; `latency`: when each event came; `first`: the time to the first event;
# `memory`: resident memory after the warm-up, after all events, and at most; `idle`: what silent connections cost.
Measure = Literal["throughput", "latency", "first", "memory", "idle"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One run.

    Attributes:
        measure: what the receiver measures.
        shape: what an event looks like.
        encoding: how hub messages travel.
        per_frame: hub messages in one WebSocket message.
        warmup: events received before measuring begins.
        events: events that are measured.
        rate: events a second; 0 for as fast as the receiver takes them.
        burst: how many of them are written at once.
        subscriptions: streams on each connection, which get events in turn.
        merged: whether all streams are read as one.
        connections: that the receiver makes; events flow once all of them have subscribed.
        size: bytes of a hub message of the shape `sized`.
        chunk: bytes that the receiver reads at most at a time; 0 for as many as its transport does.
        seconds: how long idle connections are watched.
        certificate: a PEM file with the sender's key and certificate; "" for no TLS.
        authority: a PEM file with what the receiver trusts.
        port: of the sender.
    """

    measure: Measure = "throughput"
    shape: Shape = "full"
    encoding: Encoding = "json"
    per_frame: int = 1
    warmup: int = 5_000
    events: int = 50_000
    rate: int = 0
    burst: int = 1
    subscriptions: int = 1
    merged: bool = False
    connections: int = 1
    size: int = 0
    chunk: int = 0
    seconds: float = 0.0
    certificate: str = ""
    authority: str = ""
    port: int = 0

    @property
    def total(self) -> int:
        """Events sent in all, if their number is bounded."""
        return self.warmup + self.events

    @property
    def fields(self) -> list[str] | None:
        """The selector of the subscription."""
        return {"full": None, "row": ["name", "price", "side", "volume"], "sized": ["id", "price"]}[self.shape]

    @property
    def url(self) -> str:
        """Of the sender, without a path."""
        return f"https://localhost:{self.port}" if self.certificate else f"http://127.0.0.1:{self.port}"

    @property
    def hub_url(self) -> str:
        """Of the sender's hub."""
        return f"{self.url}/streams/v1/KEY/signalr"

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self) | {"fields": self.fields, "hub_url": self.hub_url})

    @classmethod
    def load(cls, text: str) -> Self:
        """From JSON."""
        members = json.loads(text)
        return cls(**{field.name: members[field.name] for field in dataclasses.fields(cls)})
