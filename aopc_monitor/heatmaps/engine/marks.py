"""What is remembered of the tensors of a forward pass: gates, the layers they came from, logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.operations import COPIES, KEEP_GATES, VIEWS


class Marks:
    """Marks on tensors, which are forgotten with tensors that nobody else holds.

    A mark that describes a tensor's values counts for as long as nobody writes into it, which its
    version tells.
    """

    def __init__(self) -> None:
        self._gates: Any = WeakIdKeyDictionary()
        self._layers: Any = WeakIdKeyDictionary()
        self._logits: Any = WeakIdKeyDictionary()

    def mark_gate(self, tensor: Tensor, rank: int) -> None:
        """Remember a factor that weighs signals: of two, the one of the higher rank is the gate."""
        self._gates[tensor] = rank

    def mark_signal(self, tensor: Tensor) -> None:
        """Remember that a tensor weighs nothing, whatever made it."""
        self._gates.pop(tensor, None)

    def gate_rank(self, tensor: Tensor) -> int:
        """The rank of a gate; 0 for a signal."""
        rank: int = self._gates.get(tensor, 0)
        return rank

    def rank_of_result(self, call: Call, signals: list[Tensor]) -> int:
        """The rank of what a call makes of these signals alone: what is made of gates is one."""
        if call.name not in KEEP_GATES:
            return 0
        return min(self.gate_rank(signal) for signal in signals)

    def mark_logits(self, probabilities: Tensor, logits: Tensor) -> None:
        """Remember what a softmax was made of."""
        self._logits[probabilities] = (logits, probabilities._version)

    def logits_of(self, tensor: Tensor) -> Tensor | None:
        """What a softmax was made of, or None for anything else."""
        logits, version = self._logits.get(tensor, (None, None))
        return logits if version == tensor._version else None

    def remember_layer(self, outputs: Tensor, linear_map: Any, entry: Any) -> None:
        """Remember which linear operation made a tensor, and the entry that it followed."""
        self._layers[outputs] = (linear_map, entry, outputs._version)

    def layer_of(self, tensor: Tensor) -> tuple[Any, Any] | None:
        """The linear operation that made a tensor and its entry, or None for anything else."""
        linear_map, entry, version = self._layers.get(tensor, (None, None, None))
        return (linear_map, entry) if version == tensor._version else None

    def hand_on(self, call: Call, signal: Tensor, results: list[Tensor], rank: int) -> None:
        """Give what a call made of a signal the marks that it keeps."""
        if rank:
            self._gates.update(dict.fromkeys(results, rank))
        elif call.in_place:
            self._gates.pop(call.first, None)
        if call.in_place:
            return
        layer, logits = self.layer_of(signal), self.logits_of(signal)
        for copy in results:
            if layer is not None and call.name in COPIES:
                self.remember_layer(copy, *layer)
            if logits is not None and call.name in VIEWS | COPIES:
                self.mark_logits(copy, logits)
