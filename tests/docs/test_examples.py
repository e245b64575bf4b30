"""The examples in docs/examples run, show what they are about, and do not disturb training."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
# What Python itself does not show a user.
NOT_SHOWN = (DeprecationWarning, PendingDeprecationWarning, ResourceWarning)
LINE = re.compile(r"step +(\d+)  accuracy (\d\.\d\d)  AOPC (-?\d\.\d{3})  random (-?\d\.\d{3})")

TWO_PROCESSES = re.compile(r"step +(\d+)  AOPC (-?\d\.\d{3})  random (-?\d\.\d{3})")


def main_of(name: str) -> Any:
    if name == "fabric":
        pytest.importorskip("lightning_fabric")
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.main


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "empty_background",
        "fabric",
        "fabric_fsdp2",
        "plain_torch",
    }


@pytest.mark.parametrize("name", ["plain_torch", "fabric"])
def test_run_as_a_script_it_prints_a_rise_above_chance(
    name: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    if name == "fabric":
        pytest.importorskip("lightning_fabric")
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capfd.readouterr()
    rows = [tuple(map(float, found)) for found in LINE.findall(printed.out)]
    assert len(rows) == len(printed.out.splitlines())
    assert [row[0] for row in rows] == [20, 40, 60, 80, 100]
    (_, _, early, _), (_, accuracy, late, chance) = rows[0], rows[-1]
    assert accuracy > 0.9
    assert late > early + 0.2
    assert late > chance + 0.2
    assert "Warning" not in printed.err
    shown = [w for w in recwarn if not issubclass(w.category, NOT_SHOWN)]
    assert [str(warning.message) for warning in shown] == []


def test_on_an_empty_background_lrp_is_below_chance_under_noise_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("sklearn")
    main_of("empty_background")(epochs=5)
    accuracy, *rows = capsys.readouterr().out.splitlines()
    assert float(accuracy.removeprefix("accuracy ")) > 0.5
    areas = {
        name: float(area) for name, area in (row.split(" ± ")[0].rsplit(" ", 1) for row in rows)
    }
    assert areas["uniform noise: lrp"] < areas["uniform noise: random"] - 0.02
    assert areas["black: lrp"] > areas["black: random"] + 0.1


@pytest.mark.full
def test_two_processes_print_a_rise_above_chance() -> None:
    pytest.importorskip("lightning_fabric")
    path = str(EXAMPLES / "fabric_fsdp2.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, check=True, env=environment
    )
    rows = [tuple(map(float, found)) for found in TWO_PROCESSES.findall(done.stdout)]
    assert [row[0] for row in rows] == [20, 40, 60, 80, 100]
    assert rows[-1][1] > max(rows[0][1], rows[-1][2]) + 0.2
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("name", ["plain_torch", "fabric"])
def test_looking_leaves_the_training_bit_identical(name: str) -> None:
    main, kept = main_of(name), []
    for look_every in (0, 50):
        network = main(look_every=look_every)
        kept.append((network.state_dict(), torch.get_rng_state(), network.training))
    (weights, generator, mode), (looked_at, generator_after, mode_after) = kept
    assert all(torch.equal(weights[key], looked_at[key]) for key in weights)
    assert torch.equal(generator, generator_after)
    assert mode
    assert mode_after
