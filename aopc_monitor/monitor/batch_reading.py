"""What a batch of a loader holds: images or texts, labels, and further inputs of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from aopc_monitor.network.further_inputs import Inputs, given_inputs
from aopc_monitor.perturbation.token_batch import (
    TokenBatch,
    check_no_mask_follows,
    is_token_batch,
)
from aopc_monitor.utilities.batches import (
    BatchFormError,
    LabelKind,
    has_rows,
    images_of,
    labels_of,
    told_of,
)
from aopc_monitor.utilities.checks import plain_tensor

ImagesFunction: TypeAlias = Callable[[Any], Any]
LABEL_KINDS: dict[str, LabelKind] = {
    "sigmoid": "independent",
    "segmentation": "pixels",
    "value": "none",
}


def label_kind_of(score: object) -> LabelKind:
    """What labels are under a score.

    Example:
        >>> label_kind_of("sigmoid"), label_kind_of("probability")
        ('independent', 'classes')
    """
    return LABEL_KINDS.get(score, "classes") if isinstance(score, str) else "classes"


@dataclass(frozen=True)
class Taken:
    """What is perturbed of a batch, and what goes with it.

    Attributes:
        images: the images, inputs of another kind, or token ids, not yet checked.
        inputs: what the network's forward takes beside them.
        words: (N, T) the word of each token, -1 for none; None where nothing tells.
        note: how the words were found.
    """

    images: Any
    inputs: Inputs = ()
    words: Tensor | None = None
    note: str = ""


@dataclass(frozen=True)
class BatchReading:
    """Where a batch has what the probe keeps of it; usual places where no function is given.

    Attributes:
        images_fn: from a batch to its images (N, C, H, W), or to a mapping with `input_ids`.
        labels_fn: from a batch to its labels, of any kind that `class_labels` knows.
        inputs_fn: from a batch to what the network's forward takes after the images: a tensor of
            one row for each image, several in a tuple, or by name in a dict.
        label_kind: "independent" where rows of labels are independent ones also where each holds
            one, "pixels" where labels are masks, "none" where nothing is asked of them.
    """

    images_fn: ImagesFunction | None = None
    labels_fn: Callable[[Any], Any] | None = None
    inputs_fn: Callable[[Any], Any] | None = None
    label_kind: LabelKind = "classes"

    def taken(self, batch: Any) -> Taken:
        """What is taken for the images, or for the ids and words of texts.

        Raises:
            BatchFormError: if a batch has neither, or masks and words do not fit the ids.
        """
        found = batch if self.images_fn is None else _asked(self.images_fn, batch)
        first = found[0] if isinstance(found, (tuple, list)) and found else found
        if is_token_batch(first):
            try:
                texts = TokenBatch.of(first)
            except (TypeError, ValueError) as error:  # no later batch will be of another form
                raise BatchFormError(f"the probe cannot be taken: {error}") from error
            inputs = self._inputs(batch, len(texts.ids)) or texts.inputs
            return Taken(texts.ids, inputs, texts.words, texts.words_are)
        if self.images_fn is None and self.inputs_fn is None:
            check_no_mask_follows(batch)
        images = images_of(batch) if self.images_fn is None else found
        if not isinstance(images, Tensor):
            return Taken(images)
        return Taken(plain_tensor(images), self._inputs(batch, len(images)))

    def _inputs(self, batch: Any, num_images: int) -> Inputs:
        if self.inputs_fn is None:
            return ()
        return given_inputs(_asked(self.inputs_fn, batch), num_images, "inputs_fn")

    def labels(self, batch: Any, num_images: int) -> tuple[Any, str] | None:
        """What is taken for the labels, and where it was."""
        if self.label_kind == "none":
            return None
        if self.labels_fn is None:
            return labels_of(batch, num_images)
        found = _asked(self.labels_fn, batch)
        if not has_rows(found, num_images):
            raise BatchFormError(
                f"labels_fn gave {told_of(found)}; wanted is one label for each of the "
                f"{num_images} images"
            )
        return found, "labels_fn"


def _asked(function: Callable[[Any], Any], batch: Any) -> Any:
    try:
        return function(batch)
    except Exception as error:  # whatever a function of the user's may raise
        raise BatchFormError(
            f"{getattr(function, '__name__', function)} (images_fn, labels_fn or inputs_fn) raised "
            f"{type(error).__name__}: {error} for a batch that is {told_of(batch)}"
        ) from error
