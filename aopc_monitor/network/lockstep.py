"""Processes that look at a sharded model together: each waits for the others in every forward.

So all make the same forwards, chunk by chunk, and take each decision together: before each chunk
they tell each other in one small exchange whether the last one went well. Within a chunk nobody
tells anybody anything. A process that fails there goes on taking part in the exchanges of the
network until the chunk is over, with zeros, so that the others come to the next decision.

What a chunk exchanges is known from an earlier one of its kind. The first of a kind is announced,
exchange by exchange, in the store by which the processes found each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from zlib import crc32

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.announcements import Announcements
from aopc_monitor.network.exchanges import Exchange, Exchanges, OutOfStepError
from aopc_monitor.network.held_signals import HeldSignals
from aopc_monitor.network.sharded import compute_device, gathered_now, is_sharded
from aopc_monitor.utilities.distributed import are_several

Result = TypeVar("Result")


class FailedElsewhereError(RuntimeError):
    """What all processes do together failed on another one, which knows why."""


@dataclass(frozen=True)
class Told:
    """What all processes together have told.

    Attributes:
        failed: whether any has failed.
        short: whether any ran out of memory.
        unknown: whether any does not know what comes next.
        interrupted: whether signals were handled, which had come to all.
    """

    failed: bool
    short: bool
    unknown: bool
    interrupted: bool


@dataclass
class Lockstep:
    """The decisions that processes take together in one look at a model.

    Attributes:
        model: the network.
        device: where its processes exchange.
        signals: that have come meanwhile, and wait.
        known: the exchanges of a chunk by its kind; learnt here, and kept for later looks.
        is_over: whether another process has left the look, after which nothing is exchanged.
        within: whether a chunk is on its way.
    """

    model: nn.Module
    device: torch.device
    signals: HeldSignals
    known: dict[str, list[Exchange]] = field(default_factory=dict)
    is_over: bool = False
    within: bool = False

    def agree(
        self,
        what: str,
        error: Exception | None = None,
        short: bool = False,
        leaving: bool = False,
        unknown: bool = False,
    ) -> Told:
        """Tell all processes, and hear of all of them; one exchange.

        Args:
            what: what is to come; the same on all processes.
            error: why this process failed, if it did.
            short: whether memory did not suffice.
            leaving: whether this process asks for nothing more.
            unknown: whether it does not know the exchanges of what is to come.

        Raises:
            OutOfStepError: on all processes, if they are at different points.
        """
        where = crc32(what.encode())
        # The largest of all processes counts.
        flags = [error is not None, short, leaving, unknown, not self.signals.are_there]
        told = torch.tensor([*flags, where, -where], dtype=torch.int64, device=self.device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        failed, short, leaving, unknown, undisturbed, largest, smallest = told.tolist()
        self.is_over = bool(leaving)
        if not undisturbed:  # on all of them, so that what handlers say to each other is heard
            self.signals.release()
        if largest != -smallest and not failed:
            self.is_over = True
            raise OutOfStepError(
                f"the processes ask the sharded model for different things, this one for {what}: "
                "give as many images, heatmaps and settings of the same kind on each, and as often"
            )
        return Told(bool(failed), bool(short), bool(unknown), not undisturbed)

    def check(self, what: str, error: Exception | None = None, short: bool = False) -> Told:
        """Agree, and raise on all processes if any has failed: there the error itself."""
        kind = self.kind_of(what)
        told = self.agree(what, error, short, unknown=kind not in self.known)
        if told.failed:
            raise error or FailedElsewhereError("it failed on another process")
        return told

    def kind_of(self, what: str) -> str:
        """What decides on the exchanges of a chunk: also what is in place already."""
        return f"{what}{gathered_now(self.model)}"

    def run(self, what: str, work: Callable[[], Result], is_first: bool) -> Result:
        """Make a chunk; whether it fails or not, all its exchanges are made.

        Args:
            what: the chunk.
            work: makes it.
            is_first: whether its exchanges are announced, because some process does not know them.
        """
        kind, made = self.kind_of(what), list[Exchange]()
        announced = Announcements() if is_first else None
        known = None if is_first else self.known[kind]

        def tell(exchange: Exchange) -> None:
            if announced is not None:
                announced.tell(len(made), exchange)
            elif known is not None and known[len(made) : len(made) + 1] != [exchange]:
                raise OutOfStepError(f"{what}: the network took another way than before")
            made.append(exchange)

        self.within, error = True, None
        try:
            with Exchanges(tell):
                result = work()
        except Exception as caught:  # whatever a user's model or heatmap may raise
            error = caught
        finally:
            self.within = False
        more = self._finish(made, known, announced)
        if error is not None:
            raise error
        if more:
            raise OutOfStepError(
                f"{what}: the network makes {more} exchanges more on other processes, or made more "
                f"before, than on process {dist.get_rank()} now: all have to take the same way"
            )
        if announced is not None:
            self.known[kind] = made
        return result

    def _finish(
        self, made: list[Exchange], known: list[Exchange] | None, announced: Announcements | None
    ) -> int:
        """Take part in what is left of a chunk; how much that was."""
        if announced is not None:
            return announced.follow(len(made), self.device)
        missed = (known or [])[len(made) :]
        for exchange in missed:
            exchange.join(self.device)
        return len(missed)


# The exchanges of chunks, by network and by kind, as long as the network exists.
_KNOWN = WeakIdKeyDictionary()
_CURRENT: list[Lockstep] = []


def current() -> Lockstep | None:
    """How processes keep step now; None if they need not, or a chunk is on its way."""
    if not _CURRENT or _CURRENT[-1].within or _CURRENT[-1].is_over:
        return None
    return _CURRENT[-1]


@contextmanager
def in_step(model: nn.Module) -> Iterator[None]:
    """Within this context, several processes look at a sharded model in step.

    What fails on one of them is raised on all: there the error itself, elsewhere
    `FailedElsewhereError`. Signals wait until they have come to all processes, or the context is
    left. Nothing is done for a model that each process has for itself, nor within another such
    context.
    """
    if _CURRENT or not are_several() or not is_sharded(model):
        yield
        return
    with HeldSignals() as signals:
        step = Lockstep(model, compute_device(model), signals, _KNOWN.setdefault(model, {}))
        _CURRENT.append(step)
        try:
            yield
        except Exception as error:
            if not step.is_over:
                step.agree(_THE_END, error, leaving=True)
            raise
        else:
            told = None if step.is_over else step.agree(_THE_END, leaving=True)
            if told is not None and told.failed:
                raise FailedElsewhereError("it failed on another process")
        finally:
            _CURRENT.remove(step)


_THE_END = "nothing more"


def together(what: str, work: Callable[[], Result]) -> Result:
    """What some work returns, if it returns on every process that is in step.

    Args:
        what: the work; the same on all processes.
        work: asks the network.
    """
    step = current()
    if step is None:
        return work()
    result, error = None, None
    told = step.check(what)
    try:
        result = step.run(what, work, told.unknown)
    except Exception as caught:  # whatever a user's model or heatmap may raise
        error = caught
    step.check(f"{what} is done", error)
    return result  # type: ignore[return-value]


def same_for_all(values: list[bool]) -> list[bool]:
    """Answers that may differ between processes in step: yes if any says so."""
    step = current()
    if step is None:
        return values
    told: Any = torch.tensor(values, dtype=torch.int64, device=step.device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return [bool(value) for value in told.tolist()]
