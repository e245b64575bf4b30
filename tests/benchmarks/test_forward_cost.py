from __future__ import annotations

import pytest
import torch

from aopc_monitor import Execution
from aopc_monitor.perturbation import Constant
from benchmarks.forward_cost import BATCH_SIZES, STUDY_IMAGES, Curve, FirstPixels, cells_of
from benchmarks.timing import machine

IMAGES = 4


def test_what_a_choice_takes_before_its_first_answer_is_counted_for_a_study() -> None:
    images = torch.rand(IMAGES, 3, 32, 32)
    names = ("defaults", "fused", "compiled")
    curves = {name: Curve(FirstPixels(), images, Execution(chunk_size=64)) for name in names}
    bare = {f"{layout} {n}": 2.0 for layout in ("first", "last") for n in BATCH_SIZES[32]}
    seconds = bare | {"last 64": 1.0, "defaults": 1.5, "fused": 1.2, "compiled": 1.0}
    seconds |= {"perturbing": 0.132, "evaluation": 1.0, "LRP": 1.0, "matrices": 1.0}
    seconds |= {"both first": 1.0, "both last": 1.0}
    found = cells_of(curves, seconds, flops=10, made={"compiled": 50.0})
    assert found[2:4] == ["0.75", "0.60"]
    counted = 0.5 + 50.0 * IMAGES / STUDY_IMAGES / 2.0
    assert found[4] == f"{counted:.2f}, 0.50 without, 50.0 s"
    forwards = curves["defaults"].forwards
    assert forwards == IMAGES * 33
    assert found[5] == f"{132 / forwards:.3f}"


def test_a_replacement_that_stays_is_held_against_itself() -> None:
    images = torch.rand(IMAGES, 3, 32, 32)
    execution = Execution(chunk_size=64)
    curves = {
        "defaults": Curve(FirstPixels(), images, execution),
        "incremental": Curve(FirstPixels(), images, execution, Constant()),
    }
    values = [curve.measured() for curve in curves.values()]
    assert not values[0].equal(values[1])
    bare = {f"{layout} {n}": 2.0 for layout in ("first", "last") for n in BATCH_SIZES[32]}
    seconds = bare | dict.fromkeys([*curves, "perturbing", "evaluation", "LRP", "matrices"], 1.0)
    seconds |= {"both first": 1.0, "both last": 1.0}
    assert cells_of(curves, seconds, flops=10, made={})[3] == "0.50"


def test_a_network_that_does_nothing_has_a_curve() -> None:
    curve = Curve(FirstPixels(), torch.rand(IMAGES, 3, 32, 32), Execution())
    curve()
    assert curve.value.isfinite()


def test_the_machine_is_told_with_its_vector_units(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"model name": "A processor", "flags": "avx2 avx512f avx512_bf16"}
    monkeypatch.setattr("benchmarks.timing._cpuinfo", flags.get)
    assert machine().startswith("A processor (")
    assert "avx512_bf16)" in machine()
    flags["flags"] = "avx2"
    assert "no bfloat16)" in machine()
