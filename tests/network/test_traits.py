"""What a few images tell of a network."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import asked_for
from aopc_monitor.network.traits import Traits, traits_of
from tests.modules import small_network

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Ending(nn.Module):
    """A network and what is done with its class scores."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network, self.end = small_network().eval(), end

    def forward(self, images: Tensor) -> Any:
        return self.end(self.network(images))


class Meeting(nn.Module):
    """A network whose images see each other."""

    def __init__(self, meet: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.meet = meet
        self.network = small_network().eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.meet(images))


def attention(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    weights = (flat @ flat.T / flat.shape[1]).softmax(dim=1)
    return (weights @ flat).view_as(images)


def whitened(images: Tensor) -> Tensor:
    return (images - images.mean(dim=0)) / images.std()


def traits(network: nn.Module, images: Tensor = IMAGES) -> Traits:
    return traits_of(network, images, lambda few, rows: network(few))


def doubts(network: nn.Module, score: str = "probability", images: Tensor = IMAGES) -> str:
    return "; ".join(traits(network, images).doubts(score))


@pytest.mark.parametrize(
    "meet", [nn.BatchNorm2d(3, track_running_stats=False), attention, whitened]
)
@pytest.mark.parametrize("count", [1, 2, 6])
def test_images_that_see_each_other_are_noticed(meet: Any, count: int) -> None:
    assert traits(Meeting(meet), IMAGES[:count]).images_meet
    assert "depends on the other images" in doubts(Meeting(meet))


@pytest.mark.parametrize("end", [lambda x: x, lambda x: 1e-6 * x, lambda x: 0 * x, torch.relu])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_that_do_not_are_left_in_peace(end: Any, dtype: torch.dtype) -> None:
    network = Ending(end).to(dtype)
    assert not traits(network, IMAGES.to(dtype)).images_meet
    assert doubts(network, images=IMAGES.to(dtype)) == ""


def test_a_network_that_is_random_is_no_meeting() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] + torch.rand(3)

    assert not traits(Noisy()).images_meet


@pytest.mark.parametrize(
    ("end", "bounded"),
    [
        (torch.sigmoid, True),
        (lambda x: x[:, 0].sigmoid().unsqueeze(1), True),
        (lambda x: torch.cat([x[:, :2].sigmoid(), x[:, 2:].sigmoid()], dim=1), True),
        (lambda x: x.softmax(dim=1)[:, 1:2], True),
        (lambda x: nn.functional.hardsigmoid(x), True),
        (lambda x: x, False),
        (lambda x: 0.5 + 0.01 * x, False),  # between 0 and 1 by chance
        (lambda x: x.sigmoid() * 0.5, False),
        (lambda x: x.sigmoid() - 3, False),
    ],
)
def test_probabilities_of_a_sigmoid_are_known_by_how_they_are_made(end: Any, bounded: bool) -> None:
    assert traits(Ending(end)).is_bounded is bounded


def test_of_a_network_that_hides_its_operations_the_values_tell() -> None:
    for end, bounded in ((nn.Sigmoid(), True), (nn.Identity(), False)):
        scripted = torch.jit.trace(Ending(end).eval(), IMAGES[:4])
        assert traits(scripted).is_bounded is bounded


@pytest.mark.parametrize(
    ("end", "score", "words"),
    [
        (lambda x: (nn.functional.pad(x, (0, 4)), x), "probability", "answer[0] of 8 columns is"),
        (lambda x: {"a": x, "b": x[:, :1]}, "logit", "nothing tells which one is meant"),
        (nn.functional.normalize, "probability", "as embeddings have"),
        (torch.sigmoid, "probability", 'for independent labels give score="sigmoid"'),
        (torch.sigmoid, "log_probability", "whose rows do not sum to 1"),
    ],
)
def test_what_is_doubted(end: Any, score: str, words: str) -> None:
    assert words in doubts(Ending(end), score)


@pytest.mark.parametrize(
    ("end", "score"),
    [
        (lambda x: (x, x + 1), "probability"),
        (lambda x: {"embedding": x.repeat(1, 2), "logits": x}, "probability"),
        (lambda x: x.softmax(dim=1), "probability"),
        (lambda x: nn.functional.one_hot(x.argmax(1), 4).float(), "probability"),
        (torch.sigmoid, "sigmoid"),
        (torch.sigmoid, lambda outputs, target: outputs[:, 0]),
    ],
)
def test_what_is_not_doubted(end: Any, score: Any) -> None:
    assert doubts(Ending(end), score) == ""


def test_a_doubt_is_told_once_for_each_network() -> None:
    network, other = Ending(torch.sigmoid), Ending(torch.sigmoid)
    with pytest.warns(UserWarning, match="sigmoid"):
        asked_for(network, IMAGES, "probability")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked_for(network, IMAGES, "probability")
    with pytest.warns(UserWarning, match="sigmoid"):
        asked_for(other, IMAGES, "probability")


def test_asking_leaves_no_trace() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3).train()

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x).mean(dim=(2, 3)) + torch.rand(())

    network = Normalised()
    state, before = torch.get_rng_state(), copy.deepcopy(network.state_dict())
    asked_for(network, IMAGES, "probability")
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_is_kept_of_a_network_holds_no_graph() -> None:
    assert not traits(small_network().eval()).output.outputs.requires_grad
