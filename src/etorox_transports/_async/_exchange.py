"""`Exchange`: the verbs of an authenticated connection to the exchange. What runs behind them is in `_session`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import TracebackType
from typing import Self, final

from etorox_proto import Credentials, ExchangeConfig, ExchangeConnection, Session, SessionConfig
from etorox_transports._async._backend import AsyncOpener, Backend
from etorox_transports._async._feed import Events, Feed
from etorox_transports._async._session import AsyncTimeSource, SessionDriver
from etorox_transports._attempt import new_session
from etorox_transports._queue import Overload, new_queue

__all__ = ["Exchange", "new_exchange"]


@final
class Exchange:
    """An authenticated connection to the exchange; made by `connect`, and used with `async with`.

    It stays connected in the background, as its `SessionConfig` says. Its methods may be called by several tasks of the
    event loop, at any time; from other threads they may not.

    Leaving the context says goodbye and waits for the answer, `close_timeout` (and one second) at most. If the context
    is left by cancellation, the streams are dropped at once. What the body raises comes out as it is.
    """

    def __init__(self, driver: SessionDriver, *, feed_capacity: int, overload: Overload) -> None:
        new_queue(feed_capacity, overload)  # to refuse at once what cannot be used
        self._driver = driver
        self._capacity = feed_capacity
        self._overload = overload

    def __repr__(self) -> str:
        return f"<Exchange: {self._driver}>"

    async def __aenter__(self) -> Self:
        await self._driver.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._driver.leave(error)

    @property
    def session(self) -> Session:
        """The session, to look at."""
        return self._driver.session

    @property
    def connection(self) -> ExchangeConnection | None:
        """The connection in use, to look at; None between attempts."""
        return self._driver.session.connection

    def subscribe(
        self,
        channels: Sequence[str],
        *,
        event: str = "marketData",
        fields: Sequence[str] | None = None,
        stale_after: float | None = None,
        capacity: int | None = None,
        overload: Overload | None = None,
    ) -> Feed:
        """Want the events of some channels, on this and every further connection; sent as soon as there is one.

        Args:
            channels: instrument ids such as `btcusd`.
            event: `marketData` for instrument channels.
            fields: only these fields, in alphanumeric order; events then come as rows.
            stale_after: seconds of silence before a `Stale` is delivered; by default as in `SessionConfig`.
            capacity: how many events may wait in the feed; by default `feed_capacity`.
            overload: what happens to more; by default as in `connect`.

        Raises:
            LocalProtocolError: the subscription cannot be asked for; nothing was sent.
        """
        return self._driver.subscribe(
            channels,
            event=event,
            fields=fields,
            stale_after=stale_after,
            capacity=self._capacity if capacity is None else capacity,
            overload=self._overload if overload is None else overload,
        )

    def events(self, *, capacity: int | None = None, overload: Overload | None = None) -> Events:
        """All that the session says from now on, in order; what waits in feeds comes first.

        There is one such reader at a time: it replaces an earlier one, which ends, and gets what waits there. While it
        is open, feeds get nothing, and reading them raises `LocalProtocolError`.

        Args:
            capacity: how many events may wait; by default `feed_capacity`.
            overload: what happens to more; by default as in `connect`. The key of a `LatestBy` is made of market
                events, as in a feed; other events are kept.

        Raises:
            LocalProtocolError: these cannot be used.
        """
        return self._driver.events(
            capacity=self._capacity if capacity is None else capacity,
            overload=self._overload if overload is None else overload,
        )

    async def close(self) -> None:
        """Say goodbye, wait for the answer for a few seconds at most, close. Calling it again does nothing."""
        await self._driver.close()


def new_exchange(
    backend: Backend,
    config: ExchangeConfig | str,
    credentials: Credentials,
    *,
    session: SessionConfig | None,
    wait: bool,
    open_stream: AsyncOpener,
    feed_capacity: int,
    overload: Overload,
    time_source: AsyncTimeSource | None,
) -> Exchange:
    """What `connect` of an adapter returns; see there."""
    where = ExchangeConfig(config) if isinstance(config, str) else config
    how = session
    if time_source is not None:
        how = dataclasses.replace(session or SessionConfig(reconnect=False), check_clock=True)
    driver = SessionDriver(
        backend,
        open_stream,
        lambda now: new_session(where, credentials, how, now=now),
        time_source,
        close_timeout=where.close_timeout,
        wait=wait,
    )
    return Exchange(driver, feed_capacity=feed_capacity, overload=overload)
