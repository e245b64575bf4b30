"""The monitor says before training whether its heatmaps are what their names say."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, loaders, small_network, trainer


class CumulativeProduct(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.sinc(images + 0.5)


def monitor(heatmap: object) -> AOPCMonitor:
    return AOPCMonitor(
        heatmap, num_images=8, region_size=4, steps=2, data_range=(0.0, 1.0), at_validation=False
    )


def test_one_line_when_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path, callbacks=[monitor(["lrp", "deep_taylor"])]).fit(Classifier(), *loaders())
    lines = [line for line in capsys.readouterr().out.splitlines() if "fine" in line]
    assert len(lines) == 1
    assert lines[0].startswith("AOPCMonitor: lrp: fine, 10 calls of 8 operations understood")
    assert "; deep_taylor: fine" in lines[0]


def test_operations_without_a_rule_are_named_once(tmp_path: Path) -> None:
    module = Classifier(nn.Sequential(CumulativeProduct(), small_network()))
    with pytest.warns(UserWarning, match=r"AOPCMonitor: lrp: WARNING: .*: sinc \(1 x\)") as seen:
        trainer(tmp_path, callbacks=[monitor("lrp")]).fit(module, *loaders())
    assert sum("AOPCMonitor: lrp" in str(warning.message) for warning in seen) == 1


def test_a_check_that_fails_says_so_and_lets_the_evaluation_speak(tmp_path: Path) -> None:
    calls: list[int] = []

    def broken_at_first(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no memory")
        return images[:, 0]

    with pytest.warns(UserWarning, match="heatmaps could not be checked: RuntimeError: no memory"):
        trainer(tmp_path, callbacks=[monitor({"mine": broken_at_first})]).fit(
            Classifier(), *loaders()
        )
    assert len(calls) > 1


def test_a_heatmap_that_never_works_is_told_of_once_and_before_the_first_step(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    def broken(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match="no such layer"):
        trainer(tmp_path, callbacks=[monitor({"mine": broken})]).fit(Classifier(), *loaders())
    assert not any("no such layer" in str(warning.message) for warning in recwarn)


def test_the_monitor_gives_its_data_range_to_heatmaps_that_need_one(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*data_range.*")
        callback = monitor("lrp_epsilon_gamma_box")
        trainer(tmp_path, callbacks=[callback]).fit(Classifier(), *loaders())
    assert "aopc/lrp_epsilon_gamma_box" in callback.history[-1]
