from __future__ import annotations

import math
import re

import pytest
import torch

from recipes import plan
from recipes.plan import Speed, main, parse_arguments, plan_of, protocol_of

SMALL = ["--network", "small_cnn", "--image-size", "32", "--num-classes", "10", "--device", "cpu"]


@pytest.fixture(autouse=True)
def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LEAST_SECONDS", 0.0)


def test_a_plan_is_printed_with_its_forwards(capsys: pytest.CaptureFixture[str]) -> None:
    speed = main([*SMALL, "--num-images", "50", "--steps", "8", "--repeats", "2", "--devices", "4"])
    assert set(speed.heatmaps) == {"lrp"}
    assert min(speed.clean, speed.perturbed, *speed.heatmaps.values()) > 0
    study, measured, asked, sampled = capsys.readouterr().out.splitlines()
    assert "small_cnn, 50 images of 32 x 32, regions of 4 x 4; lrp and a random order" in study
    assert re.search(r"[\d,.]+ perturbed images a second.*lrp [\d,.]+", measured)
    assert f"8 steps, 2 repeats: {50 * (1 + 2 * 8 * 2):,} forwards" in asked
    assert f"4 sampled of 8 steps, 1 repeat: {50 * (1 + 2 * 4):,} forwards" in sampled
    assert "on 4" in asked


def test_times_add_up() -> None:
    options = parse_arguments([*SMALL, "--num-images", "3600", "--steps", "10", "--devices", "2"])
    speed = Speed(clean=1.0, heatmaps={"lrp": 3.0}, perturbed=0.1)
    # An image: 1 + 3 seconds, and 2 orders of 10 steps and 10 repeats at 0.1 seconds each.
    assert speed.seconds(3600, protocol_of(options)) == pytest.approx(3600 * 24)
    text = plan_of(options, protocol_of(options), speed)
    assert "24.0 hours on one device, 12.0 hours on 2" in text


def test_a_sharded_network_is_gathered_for_each_chunk(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse_arguments([*SMALL, "--num-images", "100", "--steps", "2", "--devices", "4"])
    model = torch.nn.Linear(1000, 1000, bias=False)
    line = plan.gathering_line(options, protocol_of(options), model, chunk=10)
    # 100 clean images and 2 orders of 2 steps and 10 repeats of each; a heatmap counts as two.
    times = math.ceil((100 + 100 * 2 * 2 * 10 + 2 * 100) / 4 / 10)
    assert f"{times} times 0.004 GB, {times * 0.004 * 3 / 4:.3g} GB on each of 4" in line
    main([*SMALL, "--num-images", "4", "--steps", "2", "--devices", "2", "--strategy", "fsdp2"])
    assert "gathering as asked" in capsys.readouterr().out.splitlines()[-1]


def test_steps_are_no_more_than_regions() -> None:
    assert protocol_of(parse_arguments([*SMALL, "--region-size", "8"])).steps == 16


def test_the_network_is_left_as_it_was() -> None:
    options = parse_arguments([*SMALL, "--num-images", "4", "--steps", "2"])
    model, images = plan.subject(options, 4)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    heatmaps = plan.chosen_heatmaps(["lrp"], plan.DATA_RANGE)
    plan.measured(model, images, heatmaps, protocol_of(options))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-images", "0"], "--num-images must be at least 1"),
        (["--devices", "0"], "--devices must be at least 1"),
        (["--bandwidth", "0"], "--bandwidth must be more than 0"),
        (["--heatmaps", "lpr"], "invalid choice: 'lpr'"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_a_region_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="region_size=40 does not fit images of 32 x 32"):
        protocol_of(parse_arguments([*SMALL, "--region-size", "40"]))
