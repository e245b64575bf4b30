"""A back end's answers, held against the network's, which is called as it is where they differ."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import network_in
from aopc_monitor.network.backends.base import Answers, asked
from aopc_monitor.network.backends.table import BACKENDS
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.memory import is_out_of_memory
from aopc_monitor.utilities.error_text import said_by, shortened

# How far outputs may be from the network's own: as a share of their spread (of which another order
# of summation in float32 takes a hundredth), and in steps of rounding of the largest.
TOLERANCE, ROUNDING_STEPS = 1e-4, 16
# Of a batch that is not the first, one input in so many is asked for twice.
ONE_IN = 32
_LOGGER = logging.getLogger("aopc_monitor")


class DifferenceError(RuntimeError):
    """A back end does not answer as the network does."""


@dataclass(eq=False)
class Checked:
    """A network as a back end answers for it, or as it is.

    The first chunk of inputs of a kind is answered by both, for each way of answering. Where they
    differ, or the back end fails, a warning says so, once for each network, and the network is
    called as it is.

    Attributes:
        name: of the back end.
        model: the network as it is asked.
        precision: in which the back end computes; that of the outputs if not given.
        is_optional: whether nobody has asked for this back end, so that only the log tells of a
            network that it is not for.
        answers: what answers; None where the network is called as it is.
        compared: the ways by which a chunk of this batch was answered, and held against the
            network's own answers.
    """

    name: str
    model: nn.Module
    precision: torch.dtype | None = None
    is_optional: bool = False
    answers: Answers | None = None
    compared: set[str] = field(default_factory=set)

    def prepare(self, inputs: Tensor) -> Checked:
        """Make what answers for a batch (N, ...), inside `untouched(model)`."""
        backend = BACKENDS[self.name]
        if backend is None or self._use in _REFUSED.get(network_in(self.model), ()):
            return self
        try:
            with untouched(self.model):  # each time from the same random numbers
                self.answers = backend.answers_of(self.model, inputs)
        except Exception as error:  # back ends have many of their own
            self._refuse(error)
        return self

    @property
    def is_first(self) -> bool:
        """Whether no chunk of this batch was asked for yet."""
        return not self.compared

    @property
    def layout(self) -> torch.memory_format | None:
        """How inputs have to lie in memory; None where the network decides."""
        return None if self.answers is None else self.answers.layout

    @property
    def has_threads(self) -> bool:
        """Whether what answers computes on threads of its own."""
        return self.answers is not None and self.answers.has_threads

    @property
    def in_sequence(self) -> bool:
        """Whether an answer costs less where inputs differ little from the last ones."""
        return self.answers is not None and self.answers.in_sequence

    def __call__(self, inputs: Tensor, rows: Tensor | None) -> Tensor:
        """Outputs (M, classes) of inputs (M, ...)."""
        if self.answers is None:
            return asked(self.model, inputs, rows)
        # A network may write into what it is given.
        again = inputs.clone() if self.is_first else inputs
        try:
            outputs = self.answers.call(inputs, rows)
            way = self.answers.way()
            if way not in self.compared:
                self._compare(self.answers, outputs, again, rows)
                self.compared.add(way)
            return outputs
        except Exception as error:
            if is_out_of_memory(error):  # a smaller chunk may do
                raise
            self._refuse(error)
            return asked(self.model, again, rows)

    def _compare(
        self, answers: Answers, outputs: Tensor, again: Tensor, rows: Tensor | None
    ) -> None:
        """Ask the network for all inputs if these are the first of their kind; else for a few."""
        which = (self.name, answers.number, answers.way())
        kind = (*which, again.shape[1:], again.dtype, self.precision)
        known = _COMPARED.setdefault(network_in(self.model), set())
        found = outputs
        if kind in known:
            if answers.number is None:
                return
            again = again[: -(-len(again) // ONE_IN)]
            rows = None if rows is None else rows[: len(again)]
            found = outputs[: len(again)]
            if not answers.in_sequence:
                found = answers.call(again.clone(), rows)
        with untouched(self.model):
            expected = asked(self.model, again.clone(), rows)
        if expected.isfinite().all():
            check_alike(found, expected, self.precision or expected.dtype)
            known.add(kind)
        elif found.isfinite().all():  # NaN of the network's own is told where it counts
            raise DifferenceError("outputs are finite, and the network's are not")

    def _refuse(self, error: Exception) -> None:
        self.answers = None
        _REFUSED.setdefault(network_in(self.model), set()).add(self._use)
        why = f"{type(error).__name__}: {shortened(said_by(error))}"
        instead = " is left out" if self.is_optional else ": the network is called as it is"
        text = f'backend="{self.name}"{instead}. {why}'
        if self.is_optional and not isinstance(error, DifferenceError):
            _LOGGER.info("%s", text)
        else:
            warnings.warn(text, stacklevel=2)

    @property
    def _use(self) -> str:
        # Whoever asks for the back end later is to be told.
        return f"{self.name}, optional" if self.is_optional else self.name


def check_alike(found: Tensor, expected: Tensor, precision: torch.dtype) -> None:
    """Raise DifferenceError where (M, classes) outputs are not those of the network.

    Example:
        >>> expected = torch.tensor([[3.0, -1.0]])
        >>> check_alike(expected + 1e-4, expected, torch.float32)
        >>> check_alike(expected + 1e-3, expected, torch.float32)
        Traceback (most recent call last):
        aopc_monitor.network.backends.checked.DifferenceError: outputs differ by up to 0.001 ...
    """
    if found.shape != expected.shape:
        raise DifferenceError(
            f"outputs have shape {tuple(found.shape)}, and the network's {tuple(expected.shape)}"
        )
    step, wide = torch.finfo(precision).eps, expected.double()
    spread, largest = wide.max() - wide.min(), wide.abs().max()
    tolerance = max(TOLERANCE, ROUNDING_STEPS * step) * spread + ROUNDING_STEPS * step * largest
    difference = (found.double() - wide).abs().max()
    if not difference <= tolerance:  # NaN is no answer, either
        raise DifferenceError(
            f"outputs differ by up to {float(difference):.2g} from the network's, of which "
            f"{float(tolerance):.2g} would be rounding"
        )


# What was found out about networks, as long as they exist; these are facts, not settings.
_REFUSED = WeakIdKeyDictionary()
_COMPARED = WeakIdKeyDictionary()
