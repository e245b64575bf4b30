"""What all metrics here are: sums over images; of most, the mean of a number per image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from aopc_monitor.utilities.setting_text import setting_text
from aopc_monitor.utilities.statistics import standard_error


class SumsOverImages(Metric):
    """Sums over images of fixed shape, and what follows from them.

    The sums synchronise over processes, merge and reset as those of any torchmetrics metric.

    Args:
        settings: all that two metrics must share for their sums to add up; its text counts.
        kwargs: torchmetrics' own arguments.
    """

    is_differentiable = False
    full_state_update = False

    settings: Tensor

    def __init__(self, settings: object, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # This state tells metrics apart that MetricCollection would else merge, because their sums
        # happen to be equal. It comes first, since some versions compare the first state alone.
        self.add_state("settings", _fingerprint(settings), dist_reduce_fx="max")

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the images that another metric of the same settings has seen.

        Raises:
            ValueError: if the other one was measured under other settings.
        """
        if isinstance(incoming_state, Metric):
            settings = getattr(incoming_state, "settings", None)
        else:
            settings = incoming_state.get("settings")
        if settings is None or not torch.equal(settings.to(self.settings), self.settings):
            raise ValueError(
                f"merge_state: the other {type(self).__name__} was measured under other settings, "
                "so the two do not average: make both with the same arguments"
            )
        super().merge_state(incoming_state)
        self._computed = None  # which torchmetrics would go on giving

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot one value, or several over time, in torchmetrics' manner.

        Args:
            val: what `compute` or `forward` returned, once or in a list; `compute()` if not given.
            ax: matplotlib axis to draw on.

        Returns:
            Figure and axis.

        Raises:
            ModuleNotFoundError: if matplotlib is not installed.
        """
        return self._plot(val, ax)

    def _over_processes(self) -> AbstractContextManager[None]:
        """What torchmetrics does around `compute`: sums of all processes, for a moment."""
        context: AbstractContextManager[None] = self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync,
            should_unsync=self._should_unsync,
        )
        return context

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self.dtype)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()
    ) -> nn.Module:
        """Follow a parent module to its device, but not into its precision: sums stay exact."""

        def move(state: Tensor) -> Tensor:
            try:
                moved = fn(state)
            except TypeError:  # a device without float64
                return fn(state.float())
            return moved if moved.dtype == state.dtype else state.to(moved.device)

        return super()._apply(move, exclude_state)


class MeanOverImages(SumsOverImages):
    """Mean and standard error of a number per image: sums and counts of fixed shape only.

    Args:
        settings: all that two metrics must share for their sums to add up; its text counts.
        kwargs: torchmetrics' own arguments.
    """

    total: Tensor
    total_of_squares: Tensor
    count: Tensor

    def __init__(self, settings: object, **kwargs: Any) -> None:
        super().__init__(settings, **kwargs)
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("total", zero, dist_reduce_fx="sum")
        self.add_state("total_of_squares", zero.clone(), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Scalar mean over all images seen."""
        return self._cast(self.total / self.count)

    def standard_error(self) -> Tensor:
        """Scalar standard error of `compute` over images; NaN for fewer than two."""
        with self._over_processes():
            return self._cast(standard_error(self.count, self.total, self.total_of_squares))

    def _add(self, per_image: Tensor) -> None:
        """Add (N,) values to the sums."""
        # Out of place: states that were made in inference mode refuse to be written into.
        self.total = self.total + per_image.sum().to(self.total)
        self.total_of_squares = self.total_of_squares + per_image.square().sum().to(self.total)
        self.count = self.count + len(per_image)


def _fingerprint(settings: object) -> Tensor:
    # Small numbers, since states count as equal where they are close.
    return torch.tensor(
        list(hashlib.blake2b(setting_text(settings).encode(), digest_size=8).digest())
    )
