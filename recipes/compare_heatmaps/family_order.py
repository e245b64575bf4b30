"""In which order the paper's families of heatmaps were found, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from aopc_monitor import MeanAndError
from recipes.shared.heatmap_study import FAMILIES, family
from recipes.shared.reporting.markdown import z_text


@dataclass(frozen=True)
class FamilyOrder:
    """The families from best to worst, each the mean of its heatmaps, image by image.

    Attributes:
        means: AOPC of each image (N,) by family, the largest mean first.
    """

    means: Mapping[str, Tensor]

    @classmethod
    def of(cls, areas: Mapping[str, Tensor]) -> FamilyOrder:
        """The order of those families of which there are heatmaps.

        Args:
            areas: AOPC of each image (N,) by heatmap.

        Example:
            >>> areas = {"random": torch.tensor([0.1, 0.2]), "lrp": torch.tensor([0.3, 0.5])}
            >>> FamilyOrder.of(areas).text
            "lrp > random (the paper's)"
        """
        members: dict[str, list[Tensor]] = {}
        for name, of_images in areas.items():
            if (one := family(name)) is not None:
                members.setdefault(one, []).append(of_images)
        means = {one: torch.stack(found).mean(dim=0) for one, found in members.items()}
        return cls(dict(sorted(means.items(), key=lambda item: -float(item[1].mean()))))

    @property
    def of_the_paper(self) -> str:
        """How the paper orders these families."""
        return " > ".join(one for one in FAMILIES if one in self.means)

    @property
    def found(self) -> str:
        """How they were found."""
        return " > ".join(self.means)

    @property
    def is_the_papers(self) -> bool:
        """Whether both are the same."""
        return self.found == self.of_the_paper

    @property
    def text(self) -> str:
        """What was found, and a mark if it is the paper's."""
        return f"{self.found} (the paper's)" if self.is_the_papers else self.found

    @property
    def zs(self) -> str:
        """Paired z of each family minus the next."""
        leads = [MeanAndError.of(better - worse) for better, worse in pairwise(self.means.values())]
        return ", ".join(z_text(lead) or "none" for lead in leads)
