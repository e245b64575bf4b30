"""Settings: how they read, in whichever process, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, AOPCMonitor
from aopc_monitor.utilities.setting_text import setting_text
from tests import processes
from tests.modules import Classifier, Quadrants, loaders, small_network, trainer

IMAGES = Quadrants(8).images
CHOICES: dict[str, Any] = {"region_size": 4, "steps": 4, "data_range": (0.0, 1.0)}


def brightness(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    return images.mean(dim=1)


def made_anew() -> Callable[..., Tensor]:
    """The same function as in another process: at another address."""

    def brightness(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return images.mean(dim=1)

    return brightness


class Brightness:
    __call__ = staticmethod(brightness)


def metric(heatmap: Any, model: nn.Module) -> AOPC:
    made = AOPC(heatmap, **CHOICES)
    made.update(model, IMAGES)
    return made


# How they read


@pytest.mark.parametrize(
    "make",
    [made_anew, Brightness, lambda: partial(made_anew(), scale=2)],
    ids=["function", "object", "partial"],
)
def test_a_metric_merges_with_one_whose_heatmap_is_at_another_address(
    make: Callable[[], Any],
) -> None:
    first, second = make(), make()
    assert setting_text(first) == setting_text((second,))[1:-2]
    one = AOPC(first, **CHOICES)
    one.merge_state(AOPC(second, **CHOICES))


def state_in_a_process(rank: int, world_size: int) -> dict[str, Any]:
    torch.manual_seed(0)
    made = metric(brightness, small_network())
    return {**made.metric_state, "text": setting_text(brightness)}


def test_a_metric_merges_with_one_of_another_process(tmp_path: Path) -> None:
    states = processes.run(state_in_a_process, 1, tmp_path)
    assert {state.pop("text") for state in states} == {"<function brightness>"}
    torch.manual_seed(0)
    one = metric(brightness, small_network())
    alone = float(one.compute())
    for state in states:
        one.merge_state(state)
    assert int(one.count) == 2 * len(IMAGES)
    assert float(one.compute()) == pytest.approx(alone)


def test_different_heatmaps_still_do_not_merge() -> None:
    with pytest.raises(ValueError, match="measured under other settings"):
        AOPC(brightness, **CHOICES).merge_state(AOPC(Brightness(), **CHOICES))


def test_addresses_as_windows_writes_them_are_left_out() -> None:
    class Named:
        def __repr__(self) -> str:
            return "<function brightness at 0x000001F4C0DEA2B0>"

    assert setting_text(Named()) == "<function brightness>"


# Which are refused


@pytest.mark.parametrize(
    "name", ["confidence", "accuracy", "seconds", "overhead", "failures", "x_gain", "x_sem"]
)
def test_a_heatmap_cannot_hide_another_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"heatmap='{name}' is a name of something else.*dict"):
        AOPCMonitor({name: brightness, "lrp": "lrp"})


@pytest.mark.parametrize("name", ["x_curve", "random_gain"])
def test_a_heatmap_cannot_hide_a_number_of_another_heatmap(name: str) -> None:
    def found(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return images.mean(dim=1)

    found.__name__ = name
    several: Any = [found]
    with pytest.raises(ValueError, match=f"heatmap='{name}' is a name of something else"):
        AOPCMonitor(several)


@pytest.mark.parametrize("name", ["gain", "sem", "my_confidence", "seconds_left", "curved"])
def test_names_that_only_resemble_them_are_taken(name: str) -> None:
    assert list(AOPCMonitor({name: "lrp"}).heatmaps) == [name]


@pytest.mark.parametrize("seed", [1.5, 1.0, True, None, "a", -1, np.float64(1)])
def test_a_seed_that_is_no_whole_number_is_named(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed=.* must be a whole number of at least 0"):
        AOPCMonitor(seed=seed)


@pytest.mark.parametrize("num_images", [1.5, True, None, 0, np.int64(0)])
def test_a_number_of_images_that_is_none_is_named(num_images: Any) -> None:
    with pytest.raises(ValueError, match=r"num_images=.* must be a whole number of at least 1"):
        AOPCMonitor(num_images=num_images)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    values, checkpoint = [], tmp_path / "last.ckpt"
    for three, eight in ((3, 8), (np.int64(3), np.int64(8))):
        torch.manual_seed(0)
        watch = AOPCMonitor(brightness, seed=three, num_images=eight, on_error="raise", **CHOICES)
        made = trainer(tmp_path, watch, max_epochs=1)
        made.fit(Classifier(), *loaders())
        made.save_checkpoint(checkpoint)
        torch.load(checkpoint, weights_only=True)  # no numbers of numpy's in it
        values.append([record["aopc/brightness"] for record in watch.history])
        assert len(watch.measurements[""].probe.images) == 8
    assert values[0][0] == values[1][0]
