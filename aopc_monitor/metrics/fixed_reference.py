"""A weak classifier that stays what it is, for a network's predictions to be compared with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.metrics.patch_features import PatchFeatures, averaged_down, ridge_classifier
from aopc_monitor.metrics.training_images import labelled_images
from aopc_monitor.network.random_states import (
    generator_states,
    restore_generators,
    seed_generators,
)
from aopc_monitor.utilities.checks import check_positive, checked_images, checked_seed

MOST_NAMED = 8


@dataclass(frozen=True, eq=False)
class FixedReference:
    """A ridge classifier on random image patches, fitted once on the labels as they are given.

    Agreement of a network's predictions with it, corrected for chance, can tell whether the network
    still gets better where confidence cannot: the reference does not change, and what it learnt
    wrongly from wrong labels is not what the network memorises. It needs the labels of *training*
    images, wrong ones included, and none of the images that are watched.

    On CIFAR-10 (JPEG copy), fitted on 5,000 images by the defaults, its accuracy on 3,000 others
    is 0.60, and 0.55 with 40% of the labels wrong; that takes 4 to 8 seconds of one core. Features
    are those of Coates, Ng and Lee (2011), see `PatchFeatures`. For photographs a frozen pretrained
    network with a linear probe is the stronger choice: any callable from images to classes or
    scores may take its place.

    Attributes:
        features: of an image.
        weights: (D, K) from features to scores.
        offsets: (K,) of the scores.
        image_shape: (C, H, W) of the images that it was fitted on.

    Example:
        >>> images, labels = torch.rand(40, 3, 16, 16), torch.arange(40) % 2
        >>> images[labels == 1] += 0.5 * torch.rand(3, 16, 16)
        >>> reference = FixedReference.fit([(images, labels)], num_patches=16)
        >>> reference(images).shape, bool((reference.predict(images) == labels).all())
        (torch.Size([40, 2]), True)
    """

    features: PatchFeatures
    weights: Tensor
    offsets: Tensor
    image_shape: tuple[int, ...]

    @classmethod
    def fit(
        cls,
        loader: Iterable[Any],
        num_classes: int | None = None,
        *,
        num_patches: int = 256,
        patch_size: int = 6,
        images_at_most: int = 10_000,
        ridge: float = 0.3,
        seed: int = 0,
        images_fn: Callable[[Any], Any] | None = None,
        labels_fn: Callable[[Any], Any] | None = None,
    ) -> FixedReference:
        """Fit it on the first images of a loader, and leave the global random generators alone.

        Args:
            loader: batches of images (N, C, H, W) of one size, as the network sees them, and their
                labels: class indices or one-hot rows. Images with a label below 0 are left out. A
                loader that shuffles is seeded by `seed`; one that does not should have its classes
                mixed.
            num_classes: K; one more than the largest label if not given.
            num_patches: patches that images are compared with.
            patch_size: side of them in pixels. Images of a side over 32 pixels are averaged down to
                it first.
            images_at_most: images to fit on.
            ridge: what is added to the variance of each feature, which is 1; the more labels are
                wrong, the larger it should be.
            seed: of the patches, and of the loader.
            images_fn: from a batch to its images, where they are not the first of a tuple or list,
                or under a usual key of a dict.
            labels_fn: from a batch to its labels, where they are not the second, or under a usual
                key.

        Raises:
            TypeError, ValueError: for batches without labels, labels that are no classes, a class
                without an image, and images that are none.
        """
        for name, value in (("num_patches", num_patches), ("patch_size", patch_size)):
            check_positive(name, value)
        check_positive("images_at_most", images_at_most)
        _check_ridge(ridge)
        seed = checked_seed(seed)
        states = generator_states()
        seed_generators(seed)
        try:
            images, labels = labelled_images(loader, images_at_most, images_fn, labels_fn)
        finally:
            restore_generators(states)
        images, labels = images[labels >= 0], labels[labels >= 0]
        num_classes = _checked_classes(labels, num_classes)
        shape = tuple(images.shape[1:])
        images = averaged_down(images)
        _check_patch_size(patch_size, images)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            features = PatchFeatures.of(images, num_patches, patch_size, seed)
            classifier = ridge_classifier(features(images), labels, num_classes, ridge)
        return cls(features, *classifier, shape)

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (N, K), float32, on the device of the images (N, C, H, W); the largest predicts.

        Raises:
            TypeError, ValueError: for images of another shape than those that it was fitted on.
        """
        images = checked_images(images)
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images has shape {tuple(images.shape)}, and this reference was fitted on images "
                f"of {self.image_shape}: fit it on a loader of such images"
            )
        here = self.to(images.device)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return here.features(averaged_down(images.float())) @ here.weights + here.offsets

    def predict(self, images: Tensor) -> Tensor:
        """Classes (N,) of images (N, C, H, W)."""
        return self(images).argmax(dim=1)

    def to(self, device: torch.device | str) -> FixedReference:
        """The same on another device."""
        return self.from_state({name: part.to(device) for name, part in self.state_dict().items()})

    @property
    def num_classes(self) -> int:
        """K, the classes that it was fitted on."""
        return len(self.offsets)

    def state_dict(self) -> dict[str, Tensor]:
        """All that it is, in tensors: `torch.save` keeps it, `from_state` makes it again."""
        return {
            **vars(self.features),
            "weights": self.weights,
            "class_offsets": self.offsets,
            "image_shape": torch.tensor(self.image_shape),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> FixedReference:
        """The reference that `state_dict` gave."""
        features = PatchFeatures(*(state[name] for name in PatchFeatures.__dataclass_fields__))
        shape = tuple(state["image_shape"].tolist())
        return cls(features, state["weights"], state["class_offsets"], shape)

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same reference, and for no other."""
        found = hashlib.blake2b(digest_size=8)
        for part in self.state_dict().values():
            found.update(part.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def __repr__(self) -> str:
        return f"FixedReference({self.num_classes} classes, {self.fingerprint})"


def _checked_classes(labels: Tensor, num_classes: int | None) -> int:
    """K, if a reference can be fitted on these labels."""
    named = labels.unique().tolist()
    if len(named) < 2:
        raise ValueError(
            f"the {len(labels)} labelled images have {_list(named)} as their only class: a "
            "reference tells classes apart, so give a loader in which they are mixed"
        )
    if num_classes is None:
        num_classes = named[-1] + 1
    check_positive("num_classes", num_classes)
    if named[-1] >= num_classes:
        raise ValueError(
            f"labels go up to {named[-1]}, and num_classes={num_classes} are counted from 0: give "
            "another num_classes=, or labels_fn="
        )
    if len(labels) < num_classes:
        raise ValueError(
            f"{len(labels)} labelled images are fewer than the {num_classes} classes: give a "
            "loader of more images, or a larger images_at_most="
        )
    missing = sorted(set(range(num_classes)) - set(named))
    if missing:
        raise ValueError(
            f"no image of class {_list(missing)} is among the {len(labels)} labelled ones, so that "
            f"the reference could never predict it of {num_classes} classes: give a loader in "
            "which the classes are mixed, a larger images_at_most=, or labels counted from 0"
        )
    return num_classes


def _list(classes: list[int]) -> str:
    more = f" and {len(classes) - MOST_NAMED} more" if len(classes) > MOST_NAMED else ""
    return (", ".join(map(str, classes[:MOST_NAMED])) or "none") + more


def _check_ridge(ridge: Any) -> None:
    is_number = isinstance(ridge, (int, float)) and not isinstance(ridge, bool)
    if not is_number or not 0 < ridge < math.inf:
        raise ValueError(f"ridge={ridge!r} must be a number above 0, such as 0.3")


def _check_patch_size(patch_size: int, images: Tensor) -> None:
    height, width = images.shape[2:]
    if patch_size > min(height, width):
        raise ValueError(
            f"patch_size={patch_size} is larger than the images of {height} x {width} pixels (of "
            "which the longer side is 32 at most): give a smaller one"
        )
    if patch_size == images.shape[1] == 1:
        raise ValueError(
            "patch_size=1 of images with one channel: one number has no contrast, give a larger one"
        )
