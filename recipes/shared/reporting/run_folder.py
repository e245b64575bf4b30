"""Where a run keeps what it found, so that a command given again does not start again."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.shared.reporting.markdown import write_csv


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: the folder; made when something is written.
        settings: what two runs must share to be the same, as texts.
    """

    path: Path
    settings: Mapping[str, str]

    @property
    def checkpoint(self) -> Path:
        """Where the trainer keeps its last epoch."""
        return self.path / "training.ckpt"

    @property
    def is_begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.checkpoint.exists()

    def read_points(self) -> list[dict[str, float]] | None:
        """What a finished run found; None if it has to be made.

        Raises:
            ValueError: if the folder holds a run of other settings.
        """
        file = self.path / "settings.json"
        if file.exists():
            self._compare(json.loads(file.read_text()))
        if not (self.path / "points.csv").exists():
            return None
        with (self.path / "points.csv").open(newline="") as lines:
            return [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)
            ]

    def begin(self) -> None:
        """Remember the settings, unless they are known already."""
        file = self.path / "settings.json"
        if file.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        # Another process may read the file at any time.
        unfinished = self.path / f"settings.{os.getpid()}"
        unfinished.write_text(json.dumps(dict(self.settings), indent=1))
        unfinished.replace(file)

    def write_points(self, points: Sequence[Mapping[str, float]]) -> None:
        """Keep what the run found, one row per point: from now on it is finished."""
        unfinished = self.path / "points.part"
        write_csv(unfinished, points)
        unfinished.replace(self.path / "points.csv")

    def _compare(self, before: Mapping[str, str]) -> None:
        changed = [
            f"{key} was {before.get(key)}, now {self.settings.get(key)}"
            for key in sorted({*before, *self.settings})
            if before.get(key) != self.settings.get(key)
        ]
        if changed:
            raise ValueError(
                f"{str(self.path)!r} holds a run of other settings ({'; '.join(changed)}): give "
                "another --output, or remove the folder"
            )
