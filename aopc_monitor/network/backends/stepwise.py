"""Incremental forwards that nobody has asked for: used while steps are walked, where they pay."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import network_in
from aopc_monitor.network.backends.checked import Checked
from aopc_monitor.network.backends.incremental import ON_PATCHES
from aopc_monitor.network.threads import on_one_thread

NAME = "incremental"
# Chunks on patches that are timed beside usual ones; fewer where they take so much less.
TURNS, LEAST_TURNS, CLEARLY_LESS = 3, 2, 0.8
_LOGGER = logging.getLogger("aopc_monitor")


@dataclass
class Found:
    """What was found out about a network.

    Attributes:
        on_patches: seconds of an input in the first chunks of which only patches were computed.
        usual: seconds of an input of the same chunks by the usual forwards.
    """

    on_patches: list[float] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        """Whether enough is known."""
        if len(self.usual) < LEAST_TURNS:
            return False
        is_clear = min(self.on_patches) <= CLEARLY_LESS * min(self.usual)
        return is_clear or len(self.usual) >= TURNS

    @property
    def is_slower(self) -> bool:
        """Whether the usual forwards take less time."""
        return self.is_settled and min(self.on_patches) > min(self.usual)


@dataclass(eq=False)
class Stepwise:
    """A network that is asked for one step after another.

    Attributes:
        answers: its incremental answers, as far as it has any.
        found: what was found out about it.
    """

    answers: Checked
    found: Found

    @classmethod
    def of(cls, model: nn.Module, inputs: Tensor) -> Stepwise | None:
        """The answers for a batch (N, ...); None where there are none, or they are slower."""
        found: Found = _FOUND.setdefault(network_in(model), Found())
        if found.is_slower:
            return None
        answers = Checked(NAME, model, is_optional=True).prepare(inputs)
        return cls(answers, found) if answers.in_sequence else None

    @property
    def is_of_use(self) -> bool:
        """Whether it has answers, and they are not slower."""
        return self.answers.answers is not None and not self.found.is_slower

    def __call__(self, inputs: Tensor, rows: Tensor | None, usual: Checked) -> Tensor:
        """Outputs (M, classes) of inputs (M, ...).

        Args:
            inputs: of the step that follows upon the last one.
            rows: (M,) which input of the batch each one is made of.
            usual: what answers otherwise.
        """
        if self.found.is_settled:
            return self.answers(inputs, rows)
        again, compared = inputs.clone(), len(self.answers.compared)
        began = time.perf_counter()
        outputs = self.answers(inputs, rows)
        seconds = time.perf_counter() - began
        answers = self.answers.answers
        # The first one of a batch is held against the network's own answers, which takes longer.
        is_timed = answers is not None and len(self.answers.compared) == compared
        if is_timed and answers is not None and answers.way() == ON_PATCHES:
            self._note(seconds / len(inputs), again, rows, usual)
        return outputs

    def _note(self, seconds: float, inputs: Tensor, rows: Tensor | None, usual: Checked) -> None:
        """Note what an input took, and what it takes by the usual forwards."""
        with on_one_thread() if usual.has_threads else nullcontext():
            if usual.answers is not None and usual.is_first:  # which would be compared
                usual(inputs.clone(), rows)
            began = time.perf_counter()
            usual(inputs, rows)
        self.found.usual.append((time.perf_counter() - began) / len(inputs))
        self.found.on_patches.append(seconds)
        if self.found.is_settled:
            _LOGGER.info(
                "a step takes %.2g ms where only what it changes is computed, and %.2g by whole "
                "forwards, which are%s made",
                min(self.found.on_patches) * 1e3, min(self.found.usual) * 1e3,
                "" if self.found.is_slower else " not",
            )  # fmt: skip


# What was found out about networks, as long as they exist; these are facts, not settings.
_FOUND = WeakIdKeyDictionary()


def is_settled_for(network: nn.Module) -> bool:
    """Whether it is known which forwards of a network are faster."""
    return network in _FOUND and bool(_FOUND[network].is_settled)
