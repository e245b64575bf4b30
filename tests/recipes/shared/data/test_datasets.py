import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10

from recipes.shared.data import datasets
from recipes.shared.data.image_folder import image_folder
from recipes.shared.data.labelled_images import (
    ImageData,
    LabelledImages,
    fewer_images,
    hold_out,
    shift_and_flip,
)

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return datasets.digits(seed=3, train_size=1500, test_size=600)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 255, (48, 40, 3)) // 4 + 120 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "pets"


def test_digits_have_the_promised_shapes_and_types(digits: ImageData) -> None:
    assert (len(digits.train), len(digits.test)) == (1500, 600)
    assert digits.classes == tuple("0123456789")
    assert digits.train.images.dtype == torch.uint8
    image, label = digits.train[0]
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert type(label) is int


def test_digits_depend_on_the_seed_alone(digits: ImageData) -> None:
    torch.manual_seed(99)
    again = datasets.digits(seed=3, train_size=1500, test_size=600)
    other = datasets.digits(seed=4, train_size=1500, test_size=600)
    for part, repeated, changed in (
        (digits.train, again.train, other.train),
        (digits.test, again.test, other.test),
    ):
        assert torch.equal(part.images, repeated.images)
        assert torch.equal(part.labels, repeated.labels)
        assert not torch.equal(part.images, changed.images)


def test_digits_leave_the_global_generators_alone() -> None:
    def next_numbers() -> tuple[list[float], list[float]]:
        # The old numpy interface is the one whose state is global.
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        if render:
            datasets.digits(seed=0, train_size=20, test_size=20)
        return torch.rand(3).tolist(), np.random.rand(3).tolist()  # noqa: NPY002

    render = False
    expected = next_numbers()
    render = True
    assert next_numbers() == expected


def test_no_source_digit_is_in_both_sets() -> None:
    target = load_digits().target
    train, test = datasets._split_sources(target, seed=0)
    assert sorted(torch.cat((train, test)).tolist()) == list(range(len(target)))
    shares = np.bincount(target[test.numpy()]) / np.bincount(target)
    assert shares == pytest.approx(np.full(10, 500 / 1797), abs=0.01)


def test_sets_are_drawn_from_their_own_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[set[bytes]] = []

    def spy(shapes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        drawn.append({shape.numpy().tobytes() for shape in shapes})
        return torch.zeros(len(shapes), 3, 32, 32, dtype=torch.uint8)

    monkeypatch.setattr(datasets, "draw_digits", spy)
    datasets.digits(seed=0, train_size=1000, test_size=1000)
    train, test = drawn
    assert len(train) == 1000
    assert len(test) == 500
    assert not train & test


def test_the_background_is_cluttered_everywhere(digits: ImageData) -> None:
    patches = digits.train.images.float().unfold(2, 8, 8).unfold(3, 8, 8)
    spread = patches.flatten(-2).std(-1).amax(dim=1)
    assert spread.min() > 5
    assert (digits.train.images.float().mean(dim=(1, 2, 3)) > 40).all()


def test_brightness_and_colour_do_not_give_the_digit_away(digits: ImageData) -> None:
    channel_means = digits.train.images.float().mean(dim=(2, 3))
    between = torch.stack([channel_means[digits.train.labels == k].mean(0) for k in range(10)])
    assert between.std(0).max() < 0.35 * channel_means.std(0).min()


def test_training_images_are_normalised(digits: ImageData) -> None:
    images, _ = next(iter(DataLoader(digits.train, batch_size=1500)))
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    low = (0 - torch.tensor(digits.mean)) / torch.tensor(digits.std)
    high = (1 - torch.tensor(digits.mean)) / torch.tensor(digits.std)
    assert (images.amin(dim=(0, 2, 3)) >= low - 1e-5).all()
    assert (images.amax(dim=(0, 2, 3)) <= high + 1e-5).all()


def test_a_batch_equals_its_single_items(digits: ImageData) -> None:
    loader = DataLoader(digits.test, batch_size=7)
    images, labels = next(iter(loader))
    singles = loader.collate_fn([digits.test[i] for i in range(7)])
    assert torch.equal(images, singles[0])
    assert torch.equal(labels, singles[1])
    assert labels.dtype == torch.int64


def test_augmentation_belongs_to_training_images_only(tree: Path, digits: ImageData) -> None:
    data = image_folder(tree)
    assert data.train.augment is shift_and_flip
    assert data.test.augment is None
    assert digits.train.augment is None


def test_shift_and_flip_equals_a_loop_over_single_images() -> None:
    images = torch.randint(1, 256, (40, 3, 6, 5), dtype=torch.uint8)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    moved = shift_and_flip(images, padding=2)
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    used = set()
    for image, source in zip(moved, padded, strict=True):
        crops = {
            (top, left, flip): source[:, top : top + 6, left : left + 5].flip([2] if flip else [])
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
        }
        matches = [key for key, crop in crops.items() if torch.equal(crop, image)]
        assert len(matches) == 1
        used.add(matches[0])
    assert len(used) > 10


def test_augmentation_changes_with_every_access() -> None:
    images = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    data = LabelledImages(images, torch.zeros(1), [0.5] * 3, [0.5] * 3, shift_and_flip)
    assert len({data[0][0].numpy().tobytes() for _ in range(10)}) > 1


def test_image_folder_reads_resizes_and_labels(tree: Path) -> None:
    data = image_folder(tree, image_size=16)
    assert data.name == "pets"
    assert data.classes == CLASSES
    assert data.train.images.shape == (6, 3, 16, 16)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    dark, bright = data.train.images[:3].float().mean(), data.train.images[3:].float().mean()
    assert bright > dark + 100


def test_image_folder_keeps_pixels_that_already_fit(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for split in ("train", "test"):
        (tmp_path / split / "one").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / split / "one" / "image.png")
    read = image_folder(tmp_path).test.images[0]
    assert np.array_equal(read.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("split", ["train", "test"])
def test_image_folder_misses_a_split(tree: Path, split: str) -> None:
    (tree / split).rename(tree / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"image_folder wants .*{split}' is not a folder"):
        image_folder(tree)


def test_image_folder_with_other_classes_in_test(tree: Path) -> None:
    (tree / "test" / "dog").rename(tree / "test" / "wolf")
    with pytest.raises(ValueError, match=r"'dog'\] in train but .*'wolf'\] in test; give both"):
        image_folder(tree)


@pytest.mark.parametrize("empty", ["train", "test/cat"])
def test_image_folder_without_images(tree: Path, empty: str) -> None:
    (tree / empty).rename(tree / "elsewhere")
    (tree / empty).mkdir()
    with pytest.raises(FileNotFoundError, match=r"put images there or remove empty classes"):
        image_folder(tree)


def test_image_folder_with_an_impossible_size(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"image_size must be at least 1 pixel; got 0"):
        image_folder(tree, image_size=0)


def test_cifar10_reads_the_original_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, content: object) -> list[str]:
        path = tmp_path / CIFAR10.base_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    rows = np.arange(4 * 3072).reshape(4, 3072).astype(np.uint8)
    batch = {"data": rows, "labels": [1, 0, 1, 1]}
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch)])
    meta_name, meta_md5 = write("batches.meta", {"label_names": list(CLASSES)})
    meta = {"filename": meta_name, "key": "label_names", "md5": meta_md5}
    monkeypatch.setattr(CIFAR10, "meta", meta)

    data = datasets.load("cifar10", tmp_path)
    assert data.name == "CIFAR-10"
    assert data.classes == CLASSES
    assert np.array_equal(data.train.images.flatten(1).numpy(), rows)
    assert data.test.labels.tolist() == [1, 0, 1, 1]


def test_load_passes_the_seed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(datasets, "digits", seeds.append)
    datasets.load("digits", None, 7)
    assert seeds == [7]


def test_load_reads_a_folder(tree: Path) -> None:
    assert datasets.load("image_folder", tree).classes == CLASSES


@pytest.mark.parametrize(
    ("name", "root", "message"),
    [
        ("mnist", None, r"must be one of digits, cifar10, photographs, image_folder; got 'mnist'"),
        ("image_folder", None, r"root is None, but dataset 'image_folder' needs"),
        ("digits", Path("pets"), r"root 'pets' is of no use for dataset 'digits'"),
    ],
)
def test_load_explains_what_is_wrong(name: str, root: Path | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets.load(name, root)


def test_digits_refuse_an_empty_set() -> None:
    with pytest.raises(ValueError, match=r"test_size must be at least 1; got 0"):
        datasets.digits(train_size=10, test_size=0)


def test_too_many_images_for_the_memory_are_decoded_when_asked_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = image_folder(tree, image_size=16)
    monkeypatch.setattr("recipes.shared.data.image_folder.MOST_BYTES_IN_MEMORY", 100)
    lazily = image_folder(tree, image_size=16)
    assert not isinstance(lazily.train.images, torch.Tensor)
    assert (lazily.mean, lazily.std) == (in_memory.mean, in_memory.std)
    for row in range(len(lazily.test)):
        assert torch.equal(lazily.test[row][0], in_memory.test[row][0])
    left, kept = hold_out(lazily, 2, seed=1)
    in_memory_left, in_memory_kept = hold_out(in_memory, 2, seed=1)
    assert len(left.train) == len(lazily.train) - 2
    assert torch.equal(kept[0][0], in_memory_kept[0][0])
    assert torch.equal(left.train.labels, in_memory_left.train.labels)


def test_fewer_images_are_the_first_of_a_larger_draw(digits: ImageData) -> None:
    some, more = fewer_images(digits, 20, 10), fewer_images(digits, 40)
    assert (len(some.train), len(some.test)) == (20, 10)
    assert (len(more.train), len(more.test)) == (40, 600)
    assert (some.mean, some.classes) == (digits.mean, digits.classes)
    drawn = {image.numpy().tobytes() for image in some.train.images}
    assert len(drawn) == 20
    assert drawn < {image.numpy().tobytes() for image in more.train.images}
    assert len(set(some.train.labels.tolist())) > 4
    assert fewer_images(digits).train is digits.train


@pytest.mark.parametrize("count", [0, 601])
def test_more_images_than_there_are_cannot_be_drawn(digits: ImageData, count: int) -> None:
    with pytest.raises(ValueError, match=f"test={count}: give a number of test images from 1 to"):
        fewer_images(digits, 20, count)


def test_hold_out_leaves_no_image_in_both(digits: ImageData) -> None:
    left, kept = hold_out(digits, 100, seed=0)
    assert kept.augment is None
    rows = [image.numpy().tobytes() for image in torch.cat([left.train.images, kept.images])]
    assert sorted(rows) == sorted(image.numpy().tobytes() for image in digits.train.images)
    with pytest.raises(ValueError, match="count=1500 of 1500"):
        hold_out(digits, 1500)
