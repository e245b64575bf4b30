from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from recipes.shared.reporting.run_folder import RunFolder
from recipes.shared.training.watched_training import Points, finished_trainings


class Trained:
    """Trains nothing, and remembers what it was asked for.

    Args:
        cut: the network whose training is interrupted.
    """

    def __init__(self, cut: str = "") -> None:
        self.asked: list[tuple[str, int]] = []
        self.cut = cut

    def __call__(self, folder: RunFolder, network: str, seed: int) -> Points:
        self.asked.append((network, seed))
        if network == self.cut:
            raise KeyboardInterrupt
        points = [{"step": float(seed)}]
        folder.write_points(points)
        return points


def options(**changed: object) -> argparse.Namespace:
    values = {"networks": ["a", "b:c"], "seeds": [1, 2], "output": "here", "steps": 4}
    return argparse.Namespace(**{**values, **changed})


def test_each_network_is_trained_with_each_seed_in_a_folder_of_its_own(tmp_path: Path) -> None:
    train = Trained()
    found = list(finished_trainings(options(), tmp_path, train))
    assert train.asked == [("a", 1), ("a", 2), ("b:c", 1), ("b:c", 2)]
    assert found[2] == ("b:c", 1, [{"step": 1.0}])
    assert (tmp_path / "b.c" / "seed_1" / "points.csv").exists()


def test_finished_trainings_are_read_wherever_they_were_made(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(finished_trainings(options(), tmp_path, Trained(cut="b:c")))
    train = Trained()
    more = options(networks=["b:c", "a"], seeds=[1], output="elsewhere")
    found = list(finished_trainings(more, tmp_path, train))
    assert train.asked == [("b:c", 1)]
    assert [one[:2] for one in found] == [("b:c", 1), ("a", 1)]


def test_a_training_of_other_settings_is_refused(tmp_path: Path) -> None:
    list(finished_trainings(options(), tmp_path, Trained()))
    with pytest.raises(ValueError, match="steps was 4, now 8"):
        list(finished_trainings(options(steps=8), tmp_path, Trained()))
