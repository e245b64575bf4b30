"""An AOPC of many images with its error, and what changed from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aopc_monitor.utilities.statistics import Estimate

Quantity = Literal["aopc", "gain"]
# A batch is known by its content, and by how often the same had come before.
BatchKey = tuple[int, int]


@dataclass(frozen=True, eq=False)
class AOPCEstimate:
    """AOPC over images of a data set, with its control and its error.

    Attributes:
        areas: by batch the area of each image, (2, n): of the heatmap, and of the random order
            under the same noise; (1, n) without the control. On the CPU.
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
    def aopc(self) -> Estimate:
        """AOPC (eq. 12): mean over images, its standard error, and `z`."""
        return Estimate.of(self.per_image("aopc"))

    @property
    def gain(self) -> Estimate:
        """AOPC minus that of the random order, image by image.

        Raises:
            ValueError: if it was measured without its control.
        """
        return Estimate.of(self.per_image("gain"))

    @property
    def num_images(self) -> int:
        """Images looked at."""
        return sum(areas.shape[1] for areas in self.areas.values())

    def per_image(self, of: Quantity = "aopc") -> Tensor:
        """(N,) "aopc" or "gain" of each image, in the order in which they were looked at."""
        return torch.cat([quantity(areas, of) for areas in self.areas.values()])

    def __str__(self) -> str:
        has_control = all(len(areas) == 2 for areas in self.areas.values())
        gain = f", gain {self.gain} (z = {self.gain.z:.1f})" if has_control else ""
        ending = {
            None: "",
            True: f"; a standard error of {self.target_sem} was reached",
            False: f"; the images ended before a standard error of {self.target_sem}",
        }[self.reached]
        return (
            f"AOPC {self.aopc}{gain}, of {self.num_images:,} images in {self.forwards:,} forwards"
            f"{ending}"
        )


def difference(a: AOPCEstimate, b: AOPCEstimate, of: Quantity = "aopc") -> Estimate:
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
    return Estimate.of(
        torch.cat([quantity(a.areas[key], of) - quantity(b.areas[key], of) for key in common])
    )


def quantity(areas: Tensor, of: Quantity) -> Tensor:
    """(n,) "aopc" or "gain" of each image, from `AOPCEstimate.areas` of a batch."""
    if of == "aopc":
        return areas[0]
    if len(areas) < 2:
        raise ValueError("the gain needs the random order: measure with control=True")
    return areas[0] - areas[1]
