"""What is remembered of the tensors of a forward pass: gates, the layers they came from, logits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.operations import COPIES, KEEP_GATES, MIX_GATES, VIEWS
from aopc_monitor.heatmaps.engine.saved_values import Kept
from aopc_monitor.heatmaps.engine.tensor_table import TensorTable

# Ranks of gates: of two factors, the one of the higher rank weighs the other.
BOUNDED_RANK, GATE_RANK, NORMALIZER_RANK = 1, 2, 3


# Slots make these as quick to make as a tuple: every linear operation makes one of each.
@dataclass(eq=False, slots=True)
class Stabilized:
    """Outputs z of a linear operation whose signal is damped by |z| / (|z| + epsilon).

    Attributes:
        source: z on the graph, before it is damped, or what batch normalisation made z of.
        kept: the values of z.
        epsilon: the stabiliser.
        factors: what batch normalisation, if any, multiplied the source by.
        is_rectified: whether max(0, z) was written over the values, and nothing else reads them.
    """

    source: Tensor
    kept: Kept
    epsilon: float
    factors: tuple[Tensor, ...] = ()
    is_rectified: bool = False

    def handed_on(self, damped: Tensor) -> Tensor:
        """The signal at the source of a damped one at z, which nobody else reads."""
        return through_factors(damped, self.factors)


def through_factors(damped: Tensor, factors: Iterable[Tensor]) -> Tensor:
    """A signal, which nobody else reads, multiplied by what batch normalisation multiplied by."""
    for factor in factors:
        damped = damped.mul_(factor)
    return damped


@dataclass(eq=False, slots=True)
class LayerMark:
    """What is remembered of the outputs of a linear operation.

    Attributes:
        run: the operation, as it ran (see `rules.linear_layer.LinearRun`).
        entry: the entry of the table that it followed.
        version: of the outputs, when they were made.
        stabilized: what damps the signal at them by a stabiliser that is a number, if anything.
        is_unused: whether no call in sight was given them.
    """

    run: Any
    entry: Any
    version: int
    stabilized: Stabilized | None = None
    is_unused: bool = True


class Marks:
    """Marks on tensors, which are forgotten with tensors that nobody else holds.

    A mark that describes a tensor's values counts for as long as nobody writes into it, which its
    version tells.

    Attributes:
        spares_copies: whether ReLU in place may write over outputs that no call was given.
        has_spared_copies: whether it did.
    """

    def __init__(self) -> None:
        self._gates: TensorTable[int] = TensorTable()
        self._attention: TensorTable[bool] = TensorTable()
        self._exponents: TensorTable[tuple[Tensor, int]] = TensorTable()
        self._gates_plus_one: TensorTable[int] = TensorTable()
        self._layers: TensorTable[LayerMark] = TensorTable()
        self._logits: TensorTable[tuple[Tensor, int]] = TensorTable()
        self.spares_copies = True
        self.has_spared_copies = False

    def mark_gate(self, tensor: Tensor, rank: int) -> None:
        """Remember a factor that weighs signals: of two, the one of the higher rank is the gate."""
        self._gates[tensor] = rank

    def mark_attention(self, weights: Tensor) -> None:
        """Remember weights that sum to one: they stay gates where heads mix them linearly."""
        self.mark_gate(weights, GATE_RANK)
        self._attention[weights] = True

    def mark_until_one_is_added(self, tensor: Tensor) -> None:
        """Remember what becomes a gate when 1 is added to it."""
        self._gates_plus_one[tensor] = tensor._version

    def remember_exponent(self, result: Tensor, exponent: Tensor) -> None:
        """Remember what an exponential was made of, which may become a softmax."""
        self._exponents[result] = (exponent, result._version)

    def exponent_of(self, tensor: Tensor) -> Tensor | None:
        """What an exponential was made of, or None for anything else."""
        exponent, version = self._exponents.get(tensor) or (None, None)
        return exponent if version == tensor._version else None

    def mark_signal(self, tensor: Tensor) -> None:
        """Remember that a tensor weighs nothing, whatever made it."""
        self._gates.discard(tensor)

    def gate_rank(self, tensor: Tensor) -> int:
        """The rank of a gate; 0 for a signal."""
        return self._gates.get(tensor, 0)

    def rank_of_result(self, call: Call, signals: list[Tensor]) -> int:
        """The rank of what a call makes of these signals alone: what is made of gates is one."""
        if not (self._gates.by_id or self._gates_plus_one.by_id):
            return 0
        if call.name not in _HAND_GATES_ON:
            return 0
        if call.name == "div":  # divided by whatever it may be, a gate stays one
            return self.gate_rank(call.first)
        if call.name == "add" and signals[0] in self._gates_plus_one and 1 in call.numbers:
            return GATE_RANK if self._gates_plus_one[signals[0]] == signals[0]._version else 0
        ranks = [self._gates.get(signal, 0) for signal in signals]
        if call.name in MIX_GATES:
            mixed = len(signals) > 1 or signals[0] in self._attention
            return min(ranks) if mixed and min(ranks) >= GATE_RANK else 0
        return min(ranks)

    def mark_logits(self, probabilities: Tensor, logits: Tensor) -> None:
        """Remember what a softmax was made of."""
        self._logits[probabilities] = (logits, probabilities._version)

    def logits_of(self, tensor: Tensor) -> Tensor | None:
        """What a softmax was made of, or None for anything else."""
        logits, version = self._logits.get(tensor) or (None, None)
        return logits if version == tensor._version else None

    def remember_layer(
        self,
        outputs: Tensor,
        run: Any,
        entry: Any,
        stabilized: Stabilized | None = None,
    ) -> None:
        """Remember which linear operation made a tensor, and the entry that it followed."""
        self._layers[outputs] = LayerMark(run, entry, outputs._version, stabilized)

    def layer_of(self, tensor: Tensor) -> LayerMark | None:
        """The linear operation that made a tensor and its entry, or None for anything else."""
        mark = self._layers.get(tensor)
        return mark if mark is not None and mark.version == tensor._version else None

    def stabilized(self, tensor: Tensor) -> Stabilized | None:
        """What damps the signal at a tensor, or None for anything else."""
        mark = self.layer_of(tensor)
        layer = None if mark is None else mark.stabilized
        # What is written through `.data` has a version of its own, but was copied before.
        return None if layer is None or layer.kept.moved else layer

    def may_be_rectified(self, outputs: Tensor) -> bool:
        """Whether ReLU may write over outputs without a copy: no call in sight was given them."""
        mark = self._layers.get(outputs)
        return self.spares_copies and mark is not None and mark.is_unused

    def rectify(self, layer: Stabilized) -> None:
        """Remember that ReLU writes over the outputs of a layer without a copy."""
        layer.is_rectified = self.has_spared_copies = True

    def note_used(self, signals: Iterable[Tensor]) -> None:
        """Remember that a call was given these signals."""
        for signal in signals if self._layers.by_id else ():
            mark = self._layers.get(signal)
            if mark is not None:
                mark.is_unused = False

    def hand_on(self, call: Call, signal: Tensor, results: list[Tensor], rank: int) -> None:
        """Give what a call made of a signal the marks that it keeps."""
        if rank:
            for result in results:
                self.mark_gate(result, rank)
                if signal in self._attention:
                    self._attention[result] = True
        elif call.in_place:
            self.mark_signal(call.first)
        if call.in_place or call.name not in _SAME_VALUES:
            return
        layer = self.layer_of(signal) if call.name in COPIES else None
        logits = self.logits_of(signal)
        for copy in results:
            if layer is not None and copy is not signal:
                self.remember_layer(copy, layer.run, layer.entry)
            if logits is not None:
                self.mark_logits(copy, logits)


_SAME_VALUES = VIEWS | COPIES
_HAND_GATES_ON = KEEP_GATES | MIX_GATES
