"""What an estimate over a data set found, and the difference of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.metrics.collected_areas import FEWEST_IMAGES, BatchKey, Quantity, quantity
from aopc_monitor.utilities.statistics import MeanAndError


@dataclass(frozen=True, eq=False)
class AOPCEstimate:
    """AOPC over images of a data set, with its control and its error.

    Attributes:
        areas: by batch the area of each image, (2, n): of the heatmap, and of the random order
            under the same noise; (1, n) without the control. On the CPU; NaN where no class of an
            image is explained.
        forwards: images that went through the network.
        settings: a text that is the same for estimates that compare.
        target_sem: the standard error that was asked for, or None.
        reached: whether it was reached before the images ended; None if none was asked for.
    """

    areas: Mapping[BatchKey, Tensor]
    forwards: int
    settings: str
    target_sem: float | None = None
    reached: bool | None = None

    @property
    def aopc(self) -> MeanAndError:
        """AOPC (eq. 12): mean over images, its standard error, and `z`."""
        return _mean_of(self.per_image("aopc"))

    @property
    def gain(self) -> MeanAndError:
        """AOPC minus that of the random order, image by image.

        Raises:
            ValueError: if it was measured without its control.
        """
        return _mean_of(self.per_image("gain"))

    @property
    def num_images(self) -> int:
        """Images looked at, of which a class is explained."""
        return sum(int((~areas[0].isnan()).sum()) for areas in self.areas.values())

    @property
    def left_out(self) -> int:
        """Images whose target names no class, so that nothing of them is explained."""
        return sum(int(areas[0].isnan().sum()) for areas in self.areas.values())

    def per_image(self, of: Quantity = "aopc") -> Tensor:
        """(N,) "aopc" or "gain" of each image, in the order in which they were looked at.

        NaN for those that are left out.
        """
        return torch.cat([quantity(areas, of) for areas in self.areas.values()])

    def __str__(self) -> str:
        has_control = all(len(areas) == 2 for areas in self.areas.values())
        gain = f", gain {self.gain} (z = {self.gain.z:.1f})" if has_control else ""
        ending = {
            None: "",
            True: f"; a standard error of {self.target_sem} was reached",
            False: self._short_of_target(),
        }[self.reached]
        left_out = f" ({self.left_out:,} left out, without a label)" if self.left_out else ""
        return (
            f"AOPC {self.aopc}{gain}, of {self.num_images:,} images{left_out} in "
            f"{self.forwards:,} forwards{ending}"
        )

    def _short_of_target(self) -> str:
        if self.num_images < FEWEST_IMAGES:
            return f"; too few images to tell a standard error, which takes {FEWEST_IMAGES}"
        return f"; the images ended before a standard error of {self.target_sem}"


def difference(a: AOPCEstimate, b: AOPCEstimate, of: Quantity = "aopc") -> MeanAndError:
    """How much larger `a` is than `b`, from the differences of the same images.

    Its error is much smaller than those of `a` and `b`: what the images, the sampled steps and the
    noise have to do with the size of an AOPC is the same in both.

    Args:
        a: an estimate.
        b: one of the same batches and settings, of another heatmap or network.
        of: "aopc", or "gain" for the differences of gains.

    Returns:
        The mean over the images that both have looked at, its standard error, and `z`.

    Raises:
        ValueError: if their settings differ, or they have no batch in common.

    Example:
        >>> from torch import nn
        >>> from aopc_monitor import estimate_aopc
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        >>> batches = [torch.rand(64, 3, 16, 16)]
        >>> settings = {"region_size": 4, "steps": 8, "data_range": (0.0, 1.0)}
        >>> before = estimate_aopc(model, batches, **settings)
        >>> _ = model[1].weight.data.mul_(1.1)  # as training goes on
        >>> after = estimate_aopc(model, batches, **settings)
        >>> difference(after, before).sem < after.aopc.sem / 2
        True
    """
    if a.settings != b.settings:
        raise ValueError(
            "a and b were measured under other settings, so that their difference means nothing: "
            f"{a.settings}; {b.settings}"
        )
    common = [key for key in a.areas if key in b.areas]
    if not common:
        raise ValueError(
            f"a ({a.num_images} images) and b ({b.num_images} images) have no batch in common: "
            "measure both on the same batches in the same order, without shuffling"
        )
    return _mean_of(
        torch.cat([quantity(a.areas[key], of) - quantity(b.areas[key], of) for key in common])
    )


def _mean_of(values: Tensor) -> MeanAndError:
    """Over the images that have a value."""
    known = values[~values.isnan()]
    return MeanAndError.of(known) if len(known) else MeanAndError(float("nan"), float("nan"))
