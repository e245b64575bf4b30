"""The symmetric relevance gain of the monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, loaders, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 20,
    "region_size": 4,
    "steps": 4,
    "data_range": (0.0, 1.0),
    "on_error": "raise",
}


def monitor(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{**SETTINGS, **changes})


def fit(tmp_path: Path, *callbacks: Any, **kwargs: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    ckpt_path = kwargs.pop("ckpt_path", None)
    made = trainer(tmp_path, *callbacks, **kwargs)
    made.fit(Classifier(), *loaders(), ckpt_path=ckpt_path)
    return made


def test_gain_over_the_least_relevant_first_is_logged_and_nothing_else_changes(
    tmp_path: Path,
) -> None:
    watch, plain = monitor(lerf=True), monitor()
    logged = fit(tmp_path, watch).callback_metrics
    endings = ("lerf", "srg", "survival", "survival_lerf", "survival_gap")
    assert {f"aopc/lrp_{ending}" for ending in endings} | {"aopc/random_survival"} == set(
        logged
    ) - set(fit(tmp_path, plain).callback_metrics)
    for record, other in zip(watch.history, plain.history, strict=True):
        timed = ("aopc/seconds", "aopc/overhead")
        assert all(record[key] == other[key] for key in other if key not in timed)
        gain = record["aopc/lrp"] - record["aopc/lrp_lerf"]
        assert record["aopc/lrp_srg"] == pytest.approx(gain, abs=1e-9)
        assert record["aopc/lrp_srg_sem"] > 0
        gap = record["aopc/lrp_survival_lerf"] - record["aopc/lrp_survival"]
        assert record["aopc/lrp_survival_gap"] == pytest.approx(gap, abs=1e-9)
        assert 0 <= record["aopc/random_survival"] <= 1


def test_what_it_costs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch = monitor(lerf=True)
    fit(tmp_path, watch)
    # 20 images, clean and in three orders of 4 steps.
    assert "lrp (also least relevant first) and a random order: 260 f" in capsys.readouterr().out
    assert watch.measurements[""].forwards == watch.evaluations[""].forwards == 260
    assert watch.cost(Classifier(), torch.rand(8, 3, 16, 16)).forwards == 260


def test_a_run_that_is_resumed_with_it_has_its_values_at_once(tmp_path: Path) -> None:
    fit(tmp_path, monitor(), max_epochs=1).save_checkpoint(tmp_path / "c.ckpt")
    watch = monitor(lerf=True)
    stopping = EarlyStopping("aopc/lrp_srg", mode="max", patience=9)
    fit(tmp_path, watch, stopping, ckpt_path=tmp_path / "c.ckpt", val_check_interval=1)
    resumed = [record for record in watch.history if "aopc/lrp_srg" in record]
    assert [record["step"] for record in resumed] == [6, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize(
    "name", ["mine_lerf", "mine_srg", "mine_survival", "figures_seconds", "agreement"]
)
def test_its_names_are_taken(name: str) -> None:
    with pytest.raises(ValueError, match=f"heatmap='{name}' is a name of something else"):
        monitor(heatmap={name: "lrp"})
