"""Agreement of a network with a reference, as a torchmetrics metric: a table of counts only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from aopc_monitor.metrics.base import SumsOverImages
from aopc_monitor.metrics.functional.agreement import (
    classes_of_reference,
    contingency,
    kappa_of_table,
    kappa_standard_error_of_table,
)
from aopc_monitor.metrics.functional.opening import opened
from aopc_monitor.metrics.functional.survival import check_has_classes, predicted_classes
from aopc_monitor.network.chunks import ChunkSizesByNetwork
from aopc_monitor.network.execution import Execution, checked_execution
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.outputs import OutputFunction
from aopc_monitor.network.random_states import generator_states, restore_generators
from aopc_monitor.network.scores import Score
from aopc_monitor.perturbation.input_batch import InputBatch
from aopc_monitor.utilities.checks import check_network, check_positive
from aopc_monitor.utilities.setting_text import arguments_text

# From images as the network sees them to scores (N, classes), or to classes (N,).
Reference: TypeAlias = Callable[[Any], Any]


class Agreement(SumsOverImages):
    """Cohen's kappa of a network's predictions and those of a reference, over all images seen.

    The reference stays what it is while the network changes, so that agreement rises for as long as
    the network learns what generalises, and falls when it memorises what does not. No labels of the
    images are needed. The state is the table of both predictions: counts add up, so that the value
    over batches and processes is that of all images at once.

    Args:
        reference: from images to scores (N, classes) or classes (N,), such as a frozen pretrained
            network with a linear probe; as a tensor, an array, a list or an object with scores as
            `.logits`. It is called without gradients, a module in eval mode.
        num_classes: K, the same of the network and the reference.
        score: "sigmoid" for a network that returns one number for each image: its sides are then
            the classes. Of several labels for an image the likeliest is its class.
        output_fn: from what the model returns to (N, classes), where `chosen_output` finds another
            tensor in it.
        execution: how forwards of the network are carried out; see `Execution`.
        kwargs: torchmetrics' own arguments.

    Raises:
        TypeError: unless the reference can be called.
        ValueError: for a score without a predicted class, or fewer classes than 2.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> metric = Agreement(lambda images: images.flatten(1)[:, :2], num_classes=2)
        >>> metric.update(model, torch.rand(20, 1, 8, 8))
        >>> bool(-1 <= metric.compute() <= 1), int(metric.table.sum())
        (True, 20)
    """

    higher_is_better = True

    table: Tensor

    def __init__(
        self,
        reference: Reference,
        *,
        num_classes: int,
        score: Score = "probability",
        output_fn: OutputFunction | None = None,
        execution: Execution | None = None,
        **kwargs: Any,
    ) -> None:
        if not callable(reference):
            raise TypeError(
                f"reference is a {type(reference).__name__}; wanted is something to call with "
                "images, that returns scores (N, classes) or classes (N,)"
            )
        check_positive("num_classes", num_classes)
        if num_classes == 1:
            raise ValueError("num_classes=1: of one class there is no agreement but by chance")
        check_has_classes(score)
        execution = checked_execution(execution)
        super().__init__(("agreement", reference, num_classes, score, output_fn), **kwargs)
        self.num_classes, self.score, self.output_fn = num_classes, score, output_fn
        self.execution = execution
        # In a tuple, a module is none of the metric's own: casts and checkpoints leave it alone.
        self._held = (reference,)
        self._chunks = ChunkSizesByNetwork(execution.chunk_size)
        table = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        self.add_state("table", table, dist_reduce_fx="sum")

    @property
    def reference(self) -> Reference:
        """What the network is compared with."""
        return self._held[0]

    def update(
        self, model: nn.Module, images: Tensor | Mapping[str, Any], inputs: Any = ()
    ) -> None:
        """Add the predictions of a batch; model and reference are left as they were.

        Args:
            model: network that returns (N, classes), or an object with that as `.logits`.
            images: (N, C, H, W) floating point, as the network sees them, or inputs of another
                kind. The reference gets the same.
            inputs: what the network's `forward` takes after the images.

        Raises:
            TypeError: for images, outputs or an answer of the reference of the wrong type.
            ValueError: for a wrong shape or value, or another number of classes.
        """
        check_network(model)
        batch = InputBatch.of(images, inputs)
        predicted = self._predicted(model, batch)
        given = classes_of_reference(self._asked(images), len(predicted), self.num_classes)
        found = contingency(predicted, given.to(predicted.device), self.num_classes)
        # Out of place: states that were made in inference mode refuse to be written into.
        self.table = self.table + found.to(self.table)

    def compute(self) -> Tensor:
        """Scalar kappa, at most 1, and 0 by chance; NaN where all images have one class in both."""
        return self._cast(kappa_of_table(self.table))

    def standard_error(self) -> Tensor:
        """Scalar standard error of `compute` over images; see `cohen_kappa_standard_error`."""
        with self._over_processes():
            return self._cast(kappa_standard_error_of_table(self.table))

    def extra_repr(self) -> str:
        """The settings that are not as usual, for `repr`."""
        execution = None if self.execution == Execution() else self.execution
        settings = {**vars(self), "reference": self.reference, "execution": execution}
        return arguments_text(Agreement.__init__, settings)

    def _predicted(self, model: nn.Module, batch: InputBatch) -> Tensor:
        how = (self.score, self.execution, self._chunks)
        made = opened(model, batch.images, *how, output_fn=self.output_fn, inputs=batch.inputs)
        with made as (clean, _, _):
            predicted = predicted_classes(clean, self.score)
        if clean.outputs.shape[1] != self.num_classes:
            raise ValueError(
                f"num_classes={self.num_classes}, and the model tells {clean.outputs.shape[1]} "
                "classes apart: make the metric with as many, and a reference that knows the same"
            )
        return predicted

    def _asked(self, images: Tensor | Mapping[str, Any]) -> Any:
        reference = self.reference
        shielded = untouched(reference) if isinstance(reference, nn.Module) else nullcontext()
        given = images.clone() if isinstance(images, Tensor) else images  # it may write into them
        states = generator_states()
        try:
            with shielded, torch.no_grad():
                return reference(given)
        finally:
            restore_generators(states)
