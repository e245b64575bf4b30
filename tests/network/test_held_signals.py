"""Handlers of signals wait while processes wait for each other."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from aopc_monitor.network.held_signals import HeldSignals

HANDLED: list[int] = []


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda number, frame: HANDLED.append(number))
    HANDLED.clear()
    yield
    signal.signal(signal.SIGTERM, before)


def arrive(number: int) -> None:
    """As Python does when a signal has come.

    None is sent: once OpenVINO has run, the small stack that pytest's faulthandler has signals
    handled on does not hold the registers of some processors, and the process ends.
    """
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, None)


def signalled_and_failing() -> None:
    with HeldSignals() as signals:
        assert not signals.are_there
        arrive(signal.SIGTERM)
        assert signals.are_there
        assert HANDLED == []
        raise ValueError("only here")


def test_a_handler_acts_when_the_context_is_left_also_by_an_error() -> None:
    own = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="only here"):
        signalled_and_failing()
    assert [signal.SIGTERM] == HANDLED
    assert signal.getsignal(signal.SIGTERM) is own


def test_what_is_released_acts_at_once_and_once() -> None:
    with HeldSignals() as signals:
        arrive(signal.SIGTERM)
        signals.release()
        assert [signal.SIGTERM] == HANDLED
        assert not signals.are_there
    assert len(HANDLED) == 1


def test_handlers_that_are_not_of_python_stay_what_they_are() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with HeldSignals():
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    signal.signal(signal.SIGUSR1, before)


def test_another_thread_holds_nothing() -> None:
    found = []

    def work() -> None:
        with HeldSignals() as signals:
            found.append((signal.getsignal(signal.SIGTERM), signals.are_there))

    own = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(own, False)]
