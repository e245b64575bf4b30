"""AOPC of networks that return more than class scores, one number, or see their whole batch."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, area_over_perturbation_curve, estimate_aopc, heatmaps
from aopc_monitor.heatmaps import GradCAM
from aopc_monitor.metrics.evaluation import evaluate
from aopc_monitor.network.asked import ForwardError
from aopc_monitor.network.execution import Execution
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from tests.modules import small_network

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 6, "data_range": (0.0, 1.0)}
IMAGES = torch.rand(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Ending(nn.Module):
    """A network and what is done with its class scores."""

    def __init__(self, end: Any, network: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.end = network or small_network().eval(), end

    def forward(self, images: Tensor) -> Any:
        return self.end(self.inner(images))


def one_number(scale: float = 20.0) -> nn.Module:
    """A network of one number per image, negative for half of them."""
    torch.manual_seed(0)
    last = nn.Linear(512, 1)
    network = nn.Sequential(*list(small_network())[:-1], last).eval()
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.sub_(network(IMAGES).median())
    return network


def aopc(model: nn.Module, images: Tensor = IMAGES, **changes: Any) -> float:
    metric = AOPC(**{"heatmap": "lrp", **SETTINGS, **changes})
    metric.update(model, images)
    return float(metric.compute())


# Which output


@pytest.mark.parametrize("backend", ["eager", "compile"])
def test_output_fn_chooses_what_is_explained(backend: str) -> None:
    plain, several = Ending(lambda x: x), Ending(lambda x: (x.repeat(1, 2), {"of interest": x}))
    choose = {"output_fn": lambda answer: answer[1]["of interest"]}
    execution = Execution(backend=backend)
    assert aopc(several, execution=execution, **choose) == aopc(plain)
    layered = {"heatmap": GradCAM("inner.0"), **choose}
    assert aopc(several, **layered) == aopc(plain, heatmap=GradCAM("inner.0"))

    def by_class(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return x.mean(dim=1) * model(x).gather(1, target[:, None])[:, :, None].detach()

    brightness: Any = {"heatmap": by_class}
    assert aopc(several, **brightness, **choose) == aopc(plain, **brightness)
    estimates = [
        estimate_aopc(several, [IMAGES], **SETTINGS, **choose),
        estimate_aopc(plain, [IMAGES], **SETTINGS),
    ]
    assert estimates[0].aopc == estimates[1].aopc
    maps = heatmaps.LRPEpsilon()(plain, IMAGES)
    results = [
        area_over_perturbation_curve(several, IMAGES, maps, **SETTINGS, **choose),
        area_over_perturbation_curve(plain, IMAGES, maps, **SETTINGS),
    ]
    assert torch.equal(results[0].per_image, results[1].per_image)


def test_a_heatmap_with_an_output_of_its_own_keeps_it() -> None:
    both = Ending(lambda x: (x, -x))
    own = heatmaps.get("gradient_x_input", output_fn=lambda answer: answer[1])
    first = {"output_fn": lambda answer: answer[0]}
    turned = {"heatmap": lambda model, x, t: -heatmaps.get("gradient_x_input")(model, x, t)}
    assert aopc(both, heatmap=own, **first) == aopc(both, **first, **turned)


def test_several_outputs_that_nothing_tells_apart_are_doubted_once() -> None:
    model, metric = Ending(lambda x: (x.repeat(1, 2), x)), AOPC(**SETTINGS)
    with pytest.warns(UserWarning, match=r"answer\[0\] of 8 columns is explained, not answer\[1\]"):
        metric.update(model, IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(model, IMAGES + 0.0)


# The probability of the predicted side


class TwoColumns(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        output = self.network(images)
        return torch.cat([-output / 2, output / 2], dim=1)


@pytest.mark.parametrize("heatmap", ["lrp", "sensitivity_l2", "occlusion", "grad_cam", "random"])
@pytest.mark.parametrize("end", [lambda x: x, lambda x: x[:, 0], lambda x: {"logits": x}])
def test_one_number_is_a_network_of_two_sides(heatmap: str, end: Any) -> None:
    inner = one_number()
    assert 0 < int((inner(IMAGES) > 0).sum()) < len(IMAGES)
    found = aopc(Ending(end, inner), score="sigmoid", heatmap=heatmap)
    assert found == pytest.approx(aopc(TwoColumns(inner), heatmap=heatmap), abs=1e-9)


def test_one_number_that_is_a_probability_already() -> None:
    inner = one_number()
    maps = heatmaps.LRPEpsilon()(TwoColumns(inner), IMAGES)
    results = [
        area_over_perturbation_curve(model, IMAGES, maps, **SETTINGS, score=score)
        for model, score in (
            (Ending(torch.sigmoid, inner), "sigmoid"),
            (Ending(lambda x: x[:, 0].sigmoid(), inner), "sigmoid"),
            (TwoColumns(inner), "probability"),
        )
    ]  # fmt: skip
    for result in results[:2]:
        assert torch.equal(result.target, results[2].target)
        torch.testing.assert_close(result.per_image, results[2].per_image, atol=1e-6, rtol=0)
    # And its heatmap is that of the predicted side.
    metric = AOPC("gradient_x_input", score="sigmoid", **SETTINGS)
    metric.update(Ending(torch.sigmoid, inner), IMAGES)
    assert metric.curve()[0] >= 0.5


def test_one_number_under_a_softmax_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match='give score="sigmoid"'):
        aopc(one_number())


def test_independent_labels_are_scored_one_by_one() -> None:
    logits, sigmoids = Ending(lambda x: 5 * x), Ending(lambda x: (5 * x).sigmoid())
    result, same = (
        area_over_perturbation_curve(
            model, IMAGES, IMAGES[:, 0], **SETTINGS, score="sigmoid", replacement="mean"
        )
        for model in (logits, sigmoids)
    )
    with torch.no_grad():
        likeliest = logits(IMAGES).sigmoid().max(dim=1)
    assert torch.equal(result.target, likeliest.indices)
    torch.testing.assert_close(result.curves[:, 0].float(), likeliest.values)
    torch.testing.assert_close(result.per_image, same.per_image, atol=1e-6, rtol=0)


def test_accuracy_of_independent_labels() -> None:
    model = Ending(lambda x: 5 * x)
    labels = model(IMAGES).detach() > 0
    labels[0, 1:3] = ~labels[0, 1:3]
    named, generous = heatmaps.named_heatmaps("lrp"), PerturbationProtocol(**SETTINGS)
    protocol = PerturbationProtocol(**SETTINGS, score="sigmoid")
    found = evaluate(model, IMAGES, labels, named, protocol, 0)
    assert found.mean("accuracy") == pytest.approx(0.9)
    assert found.mean("label_accuracy") == pytest.approx(0.95)
    confidence = model(IMAGES).sigmoid().max(dim=1).values.mean()
    assert found.mean("confidence") == pytest.approx(float(confidence), abs=1e-6)
    assert "accuracy" not in evaluate(model, IMAGES, labels, named, generous, 0).summary()


def test_accuracy_of_one_number() -> None:
    inner = one_number()
    labels = (inner(IMAGES)[:, 0] > 0).long()
    labels[:3] = 1 - labels[:3]
    protocol = PerturbationProtocol(**SETTINGS, score="sigmoid")
    found = evaluate(inner, IMAGES, labels, heatmaps.named_heatmaps("lrp"), protocol, 0)
    assert found.mean("accuracy") == pytest.approx(0.7)
    probability = inner(IMAGES)[:, 0].sigmoid()
    confidence = torch.maximum(probability, 1 - probability).mean()
    assert found.mean("confidence") == pytest.approx(float(confidence), abs=1e-6)


# Images that see each other


class Meeting(nn.Module):
    def __init__(self, meet: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        # A copy: what is doubted is told once for the same parameters.
        self.meet, self.network = copy.deepcopy(meet), small_network().eval()

    def forward(self, images: Tensor) -> Tensor:
        return 10 * self.network(self.meet(images))  # type: ignore[no-any-return]


def attention(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    return ((flat @ flat.T / flat.shape[1]).softmax(dim=1) @ flat).view_as(images)


BRIGHTNESS = torch.linspace(0.1, 1, 40)[:, None, None, None]
MANY = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * BRIGHTNESS


@pytest.mark.parametrize(
    "meet", [nn.BatchNorm2d(3, track_running_stats=False), attention, lambda x: x - x.mean(dim=0)]
)
@pytest.mark.parametrize(
    "changes", [{}, {"sampled_steps": 3, "repeats": 2}, {"replacement": "mean"}]
)
def test_scores_of_images_that_meet_do_not_depend_on_the_chunk_size(
    meet: Any, changes: Any
) -> None:
    with pytest.warns(UserWarning, match="depends on the other images of the batch"):
        found = {
            aopc(Meeting(meet), MANY, execution=Execution(size), **changes)
            for size in (1, 7, 64, None)
        }
    assert len(found) == 1


def test_images_that_meet_are_perturbed_together_step_by_step() -> None:
    model = Meeting(nn.BatchNorm2d(3, track_running_stats=False))
    maps, choices = IMAGES.mean(dim=1), {**SETTINGS, "replacement": "mean"}
    with pytest.warns(UserWarning, match="depends on the other images"):
        result = area_over_perturbation_curve(model, IMAGES, maps, **choices)
    # Slowly, one step of all images after the other.
    with torch.no_grad():
        clean = model(IMAGES).softmax(dim=1)
        target = clean.argmax(dim=1)
        perturbed, wanted = IMAGES.clone(), [clean.gather(1, target[:, None])[:, 0]]
        cells = maps.view(10, 4, 4, 4, 4).mean(dim=(2, 4)).flatten(1).argsort(1, descending=True)
        for k in range(6):
            for n in range(10):
                row, column = divmod(int(cells[n, k]), 4)
                rows, columns = (slice(4 * i, 4 * i + 4) for i in (row, column))
                perturbed[n, :, rows, columns] = IMAGES[n].mean(dim=(1, 2))[:, None, None]
            wanted.append(model(perturbed).softmax(dim=1).gather(1, target[:, None])[:, 0])
    curves = torch.stack(wanted, dim=1)
    torch.testing.assert_close(result.curves.float(), curves, atol=1e-5, rtol=0)


# Networks that cannot be asked


class Table(nn.Module):
    def forward(self, images: Tensor, table: Tensor) -> Tensor:
        return images.flatten(1)[:, :4] + table


class Whole(nn.Module):
    def forward(self, batch: Any) -> Tensor:
        return batch["image"].flatten(1)[:, :4]  # type: ignore[no-any-return]


class Loud(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("wrong input for\n" + "\n".join(f"layer {n}" for n in range(40)))


@pytest.mark.parametrize(
    ("model", "words"),
    [(Table(), "missing 1 required"), (Whole(), "IndexError"), (Loud(), "wrong input for. If it")],
)
def test_what_forward_was_given_is_told(model: nn.Module, words: str) -> None:
    given = r"the images alone, \(10, 3, 16, 16\)"
    with pytest.raises(ForwardError, match=f"{given}.*{words}") as told:
        aopc(model)
    assert "model_fn=" in str(told.value)
    assert len(str(told.value).splitlines()) == 1
