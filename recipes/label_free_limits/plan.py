"""Which runs a command makes: regimes, networks, seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recipes.label_free_limits.regimes import REGIMES
from recipes.shared.data.corruptions import CORRUPTIONS, OTHER_CORRUPTIONS

CORRUPTION_SETS = {"corruptions": tuple(CORRUPTIONS), "other_corruptions": tuple(OTHER_CORRUPTIONS)}
TITLES = {name: regime.title for name, regime in REGIMES.items()} | {
    "corruptions": "corrupted test images, network of the clean training",
    "other_corruptions": "test images corrupted in six other ways, network of the clean training",
}
DEFAULT = ("clean", "label_noise", "small_set", "corruptions")


@dataclass(frozen=True)
class Group:
    """The runs of one table: a regime, a network, several seeds.

    Attributes:
        regime: a key of `TITLES`.
        network: name of the network.
        seeds: of the trainings.
    """

    regime: str
    network: str
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, text: str, network: str, seeds: Sequence[int]) -> Group:
        """A group from its short form REGIME[/NETWORK][:COUNT].

        Args:
            text: the short form.
            network: where the text names none.
            seeds: of which the first COUNT are taken, or all.

        Raises:
            ValueError: if there is no such regime, or there are fewer seeds.

        Example:
            >>> Group.of("clean/small_vit:1", "small_cnn", [3, 4])
            Group(regime='clean', network='small_vit', seeds=(3,))
        """
        name, separator, count = text.rpartition(":")
        if not separator or not count.isdigit():
            name, count = text, str(len(seeds))
        regime, _, other = name.partition("/")
        if regime not in TITLES:
            raise ValueError(f"{text!r}: {regime!r} is no regime of {', '.join(TITLES)}")
        if not 0 < int(count) <= len(seeds):
            raise ValueError(f"{text!r}: {count} seeds of the {len(seeds)} that are given")
        return cls(regime, other or network, tuple(seeds[: int(count)]))

    @property
    def name(self) -> str:
        """In files and over columns."""
        return f"{self.regime}/{self.network}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{TITLES[self.regime]} ({self.network})"

    @property
    def is_training(self) -> bool:
        """Whether the points follow each other: not so on corrupted images."""
        return self.regime in REGIMES
