"""What comes from outside in mid-evaluation: the evaluation has to give way, and leave no trace."""

from __future__ import annotations

import copy
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import Tensor

from tests.integration.faults.checks import differences
from tests.integration.faults.fault import ARMED, SAME_EVERYWHERE
from tests.integration.faults.injection import Act, Injection, heatmap
from tests.integration.faults.training import Seen, run, state_of


@dataclass(frozen=True)
class Interruption:
    """One moment at which a run is told to end.

    Attributes:
        name: for people.
        interrupt: sends the message.
        endings: names of the exceptions by which Lightning may end the run.
        part: "forward" or "heatmap".
        count: in the how-many-th call of that part at the step.
        step: of the evaluation.
        calls_left: calls of the model and the heatmap that the rest of a chunk needs.
        columns: on which processes it can happen. Lightning's own handler of SIGTERM broadcasts, so
            that a signal to one process while another one waits for it hangs any training.
        sharded: whether the network is spread over two processes by FSDP2.
    """

    name: str
    interrupt: Callable[[], None]
    endings: tuple[str, ...]
    part: str
    count: int
    step: int = 2
    calls_left: int = 0
    columns: tuple[str, ...] = SAME_EVERYWHERE
    sharded: bool = False


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def keyboard() -> None:
    raise KeyboardInterrupt


# An evaluation in chunks of 4 asks the model twice what it returns, and twice whether it takes the
# channels last. Then it calls it 4 times for 16 clean images, the heatmap 4 times, and then the
# model twice for each chunk of perturbed images: for the heatmap's and the random order.
PARTS = {
    "the questions to the model": ("forward", 1, 0),
    "the clean images": ("forward", 6, 0),
    "the heatmap": ("heatmap", 2, 0),
    "the perturbed images": ("forward", 11, 1),
}
SIGTERM_ENDINGS = ("SIGTERMException", "SystemExit")
INTERRUPT_ENDINGS = ("SystemExit", "KeyboardInterrupt")
_WHOLE = [
    *(
        Interruption(f"SIGTERM during {name}", sigterm, SIGTERM_ENDINGS, part, n, calls_left=left)
        for name, (part, n, left) in PARTS.items()
    ),
    # The first call of the heatmap is that of its check.
    Interruption("SIGTERM in the first evaluation", sigterm, SIGTERM_ENDINGS, "heatmap", 2, step=0),
    *(
        Interruption(f"Ctrl-C during {name}", keyboard, INTERRUPT_ENDINGS, part, n)
        for name, (part, n, _) in PARTS.items()
    ),
]
_SHARDED = [
    replace(
        one,
        name=f"{one.name}, under FSDP2",
        # Processes hear together of what has come, before the next call but one.
        calls_left=1,
        columns=SAME_EVERYWHERE[1:],
        sharded=True,
    )
    for one in _WHOLE
]
INTERRUPTIONS = {one.name: one for one in _WHOLE + _SHARDED}


@dataclass
class Calls:
    """Counts the calls of one evaluation, and interrupts one of them.

    Attributes:
        counts: calls so far, by the part that is called.
        after: calls after the interruption.
    """

    interruption: Interruption
    is_armed: bool
    counts: Counter[str] = field(default_factory=Counter)
    after: int = 0
    has_struck: bool = False

    def of(self, part: str) -> Act:
        def act(module: Any, made: Tensor) -> Tensor:
            if module.trainer.global_step == self.interruption.step:
                self._count(part)
            return made

        return act

    def _count(self, part: str) -> None:
        self.counts[part] += 1
        self.after += self.has_struck
        is_here = part == self.interruption.part and self.counts[part] == self.interruption.count
        if is_here and self.is_armed:
            self.has_struck = True
            self.interruption.interrupt()


class Look(pl.Callback):
    """Keeps the state of the module at a step, before or after the monitor."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.state: dict[str, Any] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._look(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._look(trainer, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        # Then the other hooks are not called any more.
        self._look(trainer, pl_module)

    def _look(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step == self.step and not self.state:
            self.state = copy.deepcopy(state_of(pl_module))


class Interrupted(NamedTuple):
    """What was seen of an interrupted run on one process."""

    seen: Seen
    before: dict[str, Any]
    after: dict[str, Any]
    calls: int


def interrupted(rank: int, name: str, column: str, folder: Path, count: int) -> Interrupted:
    one = INTERRUPTIONS[name]
    calls, before, after = Calls(one, rank in ARMED[column]), Look(one.step), Look(one.step)

    def alter(trainer: Any) -> None:
        trainer.callbacks = [before, *trainer.callbacks, after]

    settings = {"heatmap": {"custom": heatmap(calls.of("heatmap"), armed=True)}, "chunk_size": 4}
    injection = Injection(disturb=calls.of("forward"), monitor=settings, alter=alter)
    seen = run(injection, folder, count, sharded=one.sharded)
    assert calls.has_struck, "nothing was interrupted"
    return Interrupted(seen, before.state, after.state, calls.after)


def complaints(name: str, found: Sequence[Interrupted]) -> list[str]:
    return [f"[{rank}] {line}" for rank, one in enumerate(found) for line in _complaints(name, one)]


def _complaints(name: str, found: Interrupted) -> Iterator[str]:
    one, seen = INTERRUPTIONS[name], found.seen
    if seen.ended.partition(":")[0] not in one.endings:
        yield f"ended with {seen.ended or 'nothing raised'}"
    if found.calls > one.calls_left:
        yield f"{found.calls} calls of the model and the heatmap afterwards"
    if not found.before or not found.after:
        yield "the state was not looked at"
    yield from differences(found.before, found.after, "the module")
    yield from (f"said {text}" for text in seen.warnings)
    if "aopc/failures" in seen.callback_metrics or any("aopc/failures" in m for m in seen.logged):
        yield "counted a failure"
    steps = [record["step"] for record in seen.histories["aopc"]]
    if steps != list(range(one.step)):
        yield f"evaluated at the steps {steps}"


def summary(found: Sequence[Interrupted]) -> str:
    calls = max(one.calls for one in found)
    alike = all(not list(differences(one.before, one.after, "")) for one in found)
    warned = sum(len(one.seen.warnings) for one in found)
    parts = [
        f"stops after {calls} more call{'' if calls == 1 else 's'}",
        "model as before" if alike else "model CHANGED",
        f"{warned or 'no'} warnings",
    ]
    return ", ".join(parts)
