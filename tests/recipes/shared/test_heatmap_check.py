from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aopc_monitor import heatmaps
from recipes.shared.heatmap_check import checked
from recipes.shared.training.networks import build

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ALL = {
    name: heatmaps.with_data_range(heatmaps.get(name), (0.0, 1.0))
    for name in heatmaps.names()
    if name != "random"
}


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = build(name, 10, 32).eval()
    if name == "small_vit":
        nn.init.normal_(network.heads.head.weight)  # zeros before a training
    return network


def test_all_apply_to_a_network_of_convolutions() -> None:
    found = checked(network_of("small_cnn"), IMAGES, ALL)
    assert found.applicable == ALL
    assert found.notes.keys() == ALL.keys()
    assert found.doubtful == ()
    assert found.notes["deconvolution_l2"].endswith(", rectifiers: relu (4 x)")


def test_a_transformer_is_told_what_was_not_made_for_it() -> None:
    network = network_of("small_vit")
    before = copy.deepcopy(network.state_dict())
    found = checked(network, IMAGES, ALL)
    assert found.applicable == ALL
    assert found.doubtful == ("deeplift", "grad_cam")
    assert "patch embedding" in found.notes["grad_cam"]
    assert "no rule for: layer_norm" in found.notes["deeplift"]
    assert found.notes["guided_backpropagation_linf"].endswith(", rectifiers: gelu (4 x)")
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["deconvolution_l2", "guided_backpropagation_linf"])
def test_without_a_rectifier_deconvolution_is_called_the_gradient(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(1800, 10))
    found = checked(network.eval(), IMAGES, {name: ALL[name]})
    assert found.doubtful == (name,)
    assert "no ReLU or other rectifier was met" in found.notes[name]
    # As it says, it is the gradient.
    gradient = ALL["sensitivity" + name[name.rindex("_") :]]
    target = torch.tensor([3, 4])
    torch.testing.assert_close(
        ALL[name](network, IMAGES, target), gradient(network, IMAGES, target)
    )


def test_what_does_not_apply_is_left_out() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval()
    found = checked(network, IMAGES, {name: ALL[name] for name in ("grad_cam", "lrp")})
    assert list(found.applicable) == ["lrp"]
    assert found.doubtful == ("grad_cam",)
    assert found.notes["grad_cam"].startswith("grad_cam: left out, layer is not given")
    with pytest.raises(ValueError, match=r"no heatmap applies to this network:\ngrad_cam: left"):
        checked(network, IMAGES, {"grad_cam": ALL["grad_cam"]})
