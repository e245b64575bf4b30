"""AOPCMonitor from the command line and from YAML, in both Lightnings."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier

pytest.importorskip("jsonargparse")

YAML = """
trainer:
  logger: false
  callbacks:
    - class_path: aopc_monitor.AOPCMonitor
      init_args:
        heatmap: [lrp, sensitivity_l2]
        every_n_steps: [10, 100]
        data_range: [0.0, [1.0, 1.0, 2.0]]
        lerf: true
        figures: true
        figures_every_n_steps: [10, 50]
        custom_scalars: true
"""


def monitors_of(package: str, module: Any, arguments: list[str]) -> list[AOPCMonitor]:
    cli = import_module(f"{package}.cli")
    made = cli.LightningCLI(module, run=False, args=arguments)
    return [callback for callback in made.trainer.callbacks if isinstance(callback, AOPCMonitor)]


def classifier_of(package: str) -> Any:
    pl = import_module(package)
    return Classifier if package == "pytorch_lightning" else type("M", (pl.LightningModule,), {})


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_flags(package: str) -> None:
    pytest.importorskip(package.split(".")[0])
    (monitor,) = monitors_of(
        package,
        classifier_of(package),
        [
            "--trainer.logger=false",
            "--trainer.callbacks+=aopc_monitor.AOPCMonitor",
            "--trainer.callbacks.every_n_steps=500",
            "--trainer.callbacks.heatmap=sensitivity_l2",
        ],
    )
    assert monitor.every_n_steps == 500
    assert list(monitor.heatmaps) == ["sensitivity_l2"]


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_yaml(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package.split(".")[0])
    (tmp_path / "config.yaml").write_text(YAML)
    (monitor,) = monitors_of(
        package, classifier_of(package), ["--config", str(tmp_path / "config.yaml")]
    )
    assert list(monitor.heatmaps) == ["lrp", "sensitivity_l2"]
    assert monitor.every_n_steps == [10, 100]
    assert monitor.figures_every_n_steps == [10, 50]
    assert monitor.settings.lerf
    assert monitor.settings.figures
    assert monitor.settings.custom_scalars
