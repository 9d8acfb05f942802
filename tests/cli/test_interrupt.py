"""Ctrl-C ends `etorox simulate` in good order, wherever in its loop it comes."""

from __future__ import annotations

import contextlib
import gc
import inspect
import itertools
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from etorox_transports._blocking._streams import StreamLoop
from etorox_transports.cli import main
from loopback import held_port

KEY_FILE = Path(__file__).parents[1] / "data" / "keys" / "rsa1024-pkcs8.pem"
LOOP = inspect.getsourcefile(StreamLoop)


@contextlib.contextmanager
def each_line_of_a_turn(do: Callable[[int], object]) -> Iterator[None]:
    """Do something before each line of the loop's code while it takes a turn; it is told the line's number."""

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return trace_line if frame.f_code.co_filename == LOOP and "turn" in callers(frame) else None

    def trace_line(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            do(frame.f_lineno)
        return trace_line

    before = sys.gettrace()  # such as one that measures coverage
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def callers(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


def visit(port: int, is_over: threading.Event, signals: Sequence[signal.Signals]) -> None:
    """Come twice and be sent away; then send these signals, unless it is over."""
    pause = threading.Event()
    visits = 0
    while visits < 2 and not is_over.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10.0) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            while sock.recv(4_096):
                pass
            visits += 1
        pause.wait(0.002)
    for each in signals:
        if not is_over.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, each)


def simulate(before_a_line: Callable[[int], object], is_over: threading.Event, *signals: signal.Signals) -> int:
    """The command's exit code; something is done before each line of its loop, and signals end it if nothing else."""
    with contextlib.ExitStack() as stack:
        port = held_port(stack)
        visitor = threading.Thread(target=visit, args=(port, is_over, signals or [signal.SIGINT]))
        visitor.start()
        try:
            with each_line_of_a_turn(before_a_line):
                return main(["simulate", "--port", str(port), "--key-file", str(KEY_FILE), "--rate", "1"])
        finally:
            is_over.set()
            visitor.join()


def test_nothing_is_left_open(capsys: pytest.CaptureFixture[str]) -> None:
    """A socket that was just accepted, or is about to be closed, belongs to nobody for a moment."""
    lines: dict[int, None] = {}
    assert simulate(lines.setdefault, threading.Event()) == 0
    assert len(lines) > 60
    for line in lines:
        is_over = threading.Event()

        def interrupt(number: int, wanted: int = line, is_over: threading.Event = is_over) -> None:
            if number == wanted and not is_over.is_set():
                is_over.set()
                signal.raise_signal(signal.SIGINT)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert simulate(interrupt, is_over) == 0
            gc.collect()
        assert [str(each.message) for each in caught] == [], f"Ctrl-C at line {line}"
        assert capsys.readouterr().out.endswith(" market events.\n")


def test_a_second_one_ends_a_turn_that_does_not_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as one that waits until somebody reads what it prints."""
    is_over = threading.Event()
    interrupts = itertools.count(1)

    def stall(_line: int) -> None:
        is_over.set()
        while next(interrupts) < 100:
            signal.raise_signal(signal.SIGINT)

    assert simulate(stall, is_over) == 0
    assert next(interrupts) == 3
    assert capsys.readouterr().out.endswith(" market events.\n")


def test_ctrl_c_that_is_ignored_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    """As in the background of a script. SIGTERM ends it."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert simulate(heard.append, threading.Event(), signal.SIGINT, signal.SIGTERM) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard
    assert capsys.readouterr().out.endswith(" market events.\n")
