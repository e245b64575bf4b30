"""Photographs as people have them, and images of which only a test is there."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recipes.shared.data.image_folder import image_folder
from recipes.shared.data.photograph_files import read_photograph
from recipes.shared.data.photographs import (
    SYNSETS,
    UNLABELLED,
    photographs,
    unlabelled,
    with_known_classes,
)

RAMP = np.linspace(0, 255, 64).reshape(8, 8)


def test_a_gray_photograph_has_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "gray.png")
    read = np.asarray(read_photograph(tmp_path / "gray.png"))
    assert (read == RAMP.astype(np.uint8)[..., None]).all()


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray((RAMP * 257).astype(np.uint16)).save(tmp_path / "deep.png")
    read = np.asarray(read_photograph(tmp_path / "deep.png"))
    assert np.abs(read[..., 0] - RAMP).max() <= 1


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    read = np.asarray(read_photograph(tmp_path / "alpha.png"))
    assert read[0, 0].tolist() == [10, 20, 30]
    assert (read.reshape(-1, 3)[1:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_a_photograph_is_turned_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    pixels = np.arange(6 * 4).reshape(4, 6).repeat(8, 0).repeat(8, 1).astype(np.uint8) * 10
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"turned.{ending}", exif=exif)
    read = np.asarray(read_photograph(tmp_path / f"turned.{ending}"), dtype=float)[..., 0]
    # Rows and columns of the file are these sides of the picture, by EXIF 2.32, tag 0x0112.
    upright = pixels if orientation <= 4 else pixels.T
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    assert read.shape == upright.shape
    assert np.abs(read - upright).max() <= 3  # of 255, since JPEG loses some


def test_a_damaged_note_of_the_camera_hides_no_photograph(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4))
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    # The maker's name stands where a number is wanted, the width.
    damaged = exif.tobytes().replace(b"\x01\x0f", b"\x01\x00")
    image.save(tmp_path / "damaged.jpg", exif=damaged)
    assert read_photograph(tmp_path / "damaged.jpg").size == (4, 6)


def test_a_tiny_and_a_long_photograph_are_brought_to_size(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "tiny.png")
    Image.new("RGB", (3000, 20), "red").save(tmp_path / "long.png")
    data = unlabelled("two", [tmp_path / "tiny.png", tmp_path / "long.png"], image_size=32)
    assert data.test.images.shape == (2, 3, 32, 32)
    assert data.test.labels.tolist() == [UNLABELLED, UNLABELLED]


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"text.jpg' is no image that can be read: unknown format"):
        read_photograph(tmp_path / "text.jpg")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (RAMP.astype(np.float32) / 255, "fractions of an unknown white; save it with 8 or 16 bits"),
        (RAMP.astype(np.int32) * 257_000, "go from 0 to 65535000, and 16 bits to 65535 only"),
        (RAMP.astype(np.int32) - 1, "go from -1 to 254"),
    ],
)
def test_numbers_that_do_not_say_what_is_white_are_refused(
    tmp_path: Path, pixels: np.ndarray, message: str
) -> None:
    Image.fromarray(pixels).save(tmp_path / "scan.tif")
    with pytest.raises(ValueError, match=rf"scan.tif' is no image that can be read: .*{message}"):
        read_photograph(tmp_path / "scan.tif")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells what it skips
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "bmp", "ppm"])
def test_a_damaged_file_is_read_or_named(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"damaged.{ending}"
    Image.fromarray(RAMP.astype(np.uint8)).convert("RGB").save(file)
    whole, draws = bytearray(file.read_bytes()), random.Random(0)
    messages = []
    for _ in range(40):
        damaged = whole[: draws.randrange(len(whole))] if draws.random() < 0.3 else whole[:]
        for _ in range(4 if damaged else 0):
            damaged[draws.randrange(len(damaged))] = draws.randrange(256)
        file.write_bytes(damaged)
        try:
            read = read_photograph(file)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert read.mode == "RGB"
    assert messages
    assert all(f"damaged.{ending}' is" in message for message in messages)


def test_a_photograph_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 799)
    with pytest.raises(ValueError, match=r"large.png' is too large .*1600 pixels.*: make it small"):
        read_photograph(tmp_path / "large.png")


def test_a_folder_of_tests_only_has_nothing_to_train_on(tmp_path: Path) -> None:
    for name in ("goldfish", "nothing_known", "n01440764"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "test" / name / "a.png")
    data = image_folder(tmp_path, image_size=16, is_trained=False)
    assert (len(data.train), len(data.test)) == (0, 3)
    assert torch.isfinite(data.test[0][0]).all()

    categories = ["tench", "goldfish", *(f"class {i}" for i in range(998))]
    known = with_known_classes(data, categories)
    assert known.test.labels.tolist() == [1, 0, UNLABELLED]
    assert known.test.classes == tuple(categories)
    assert data.test.labels.tolist() == [0, 1, 2]


def test_synsets_are_those_of_imagenet() -> None:
    synsets = SYNSETS.read_text().split()
    assert len(synsets) == 1000
    assert synsets == sorted(set(synsets))


def test_photographs_come_with_scikit_image() -> None:
    pytest.importorskip("skimage", reason="the extra photographs is not installed")
    data = photographs(image_size=64)
    assert data.test.images.shape == (6, 3, 64, 64)
    assert len(data.train) == 0
