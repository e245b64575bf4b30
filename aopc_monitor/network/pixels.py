"""Networks that give each pixel a class: what of their large outputs is kept, and the score.

The score of a class is its mean logit over the pixels that were predicted so on the clean image
(captum's tutorials sum it there). Which pixels these are is settled by the clean image and stays
so while it is perturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aopc_monitor.network.targets import Explanations, Predicted, Target, chosen_target


def mean_over_pixels(outputs: Tensor, pixels: Tensor) -> Tensor:
    """(M, classes) means of outputs over some pixels of each image.

    Args:
        outputs: (M, classes, *space).
        pixels: (M, *space) which pixels, one at least.

    Example:
        >>> outputs = torch.tensor([[[1.0, 3.0, 100.0]]])
        >>> mean_over_pixels(outputs, torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    if outputs.dtype in (torch.float16, torch.bfloat16):
        outputs = outputs.float()  # sums of many
    weights = pixels.flatten(1).to(outputs.dtype)
    weights = weights / weights.sum(dim=1, keepdim=True)
    if torch.is_grad_enabled():
        # A heatmap's rules take a product of matrices for a layer, and these weights for its own.
        return (outputs.flatten(2) * weights[:, None]).sum(dim=2)
    # As a product of matrices it needs no copy of the outputs.
    return torch.bmm(outputs.flatten(2), weights[:, :, None])[:, :, 0]


@dataclass(frozen=True)
class PixelAnswers:
    """What is kept of the answers to clean images.

    Attributes:
        predicted: the class of each pixel, which ones there are, and which one covers most.
        target: (N,) or (N, K) which classes are explained.
        pixels: (P, *space) those that were predicted as the class of each explanation.
        outputs: (P, K) mean logits over them.
        confidence: (P,) mean probability of the class over them.
    """

    predicted: Predicted
    target: Tensor
    pixels: Tensor
    outputs: Tensor
    confidence: Tensor

    @classmethod
    def of(cls, outputs: Tensor, target: Target, has_sides: bool) -> PixelAnswers:
        """Of outputs (N, classes, *space).

        Args:
            outputs: logits.
            target: what is explained; see `chosen_target`.
            has_sides: whether the classes are the two sides of one logit.

        Raises:
            ValueError: for a target of which an image has no pixel.
        """
        predicted = _predicted(outputs)
        chosen = chosen_target(target, outputs, predicted)
        if chosen.is_floating_point():
            raise TypeError(f"target is {chosen.dtype}; wanted are whole numbers or truth values")
        explained = Explanations.of(chosen)
        assert predicted.of_pixels is not None
        of_class = explained.target.view(-1, *[1] * (outputs.ndim - 2))
        pixels = explained.rows_of(predicted.of_pixels) == of_class
        _check_none_is_empty(pixels, explained)
        means = mean_over_pixels(explained.rows_of(outputs), pixels)
        confidence = _probability(outputs, explained, pixels, has_sides)
        return cls(predicted, chosen, pixels, means, confidence)

    @classmethod
    def joined(cls, parts: Sequence[PixelAnswers]) -> PixelAnswers:
        """Of several chunks, one after the other."""
        predicted = Predicted(
            *(
                torch.cat([getattr(part.predicted, name) for part in parts])
                for name in ("one", "each", "of_pixels")
            )
        )
        names = ("target", "pixels", "outputs", "confidence")
        return cls(predicted, *(torch.cat([getattr(p, name) for p in parts]) for name in names))


def _predicted(outputs: Tensor) -> Predicted:
    classes = outputs.shape[1]
    of_pixels = outputs.argmax(dim=1)
    counts = torch.zeros(len(outputs), classes, dtype=torch.long, device=outputs.device)
    flat = of_pixels.flatten(1)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    small = torch.uint8 if classes <= 256 else torch.int32
    return Predicted(counts.argmax(dim=1), counts > 0, of_pixels.to(small))


def _check_none_is_empty(pixels: Tensor, explained: Explanations) -> None:
    empty = (~pixels.flatten(1).any(dim=1)).nonzero()[:, 0]
    if len(empty):
        first = int(empty[0])
        raise ValueError(
            f"target names class {int(explained.target[first])}, as which the network predicts no "
            f"pixel of an image (nor of {len(empty) - 1} more): there is no score to explain. Give "
            'classes that it predicts, such as target="predicted"'
        )


def _probability(
    outputs: Tensor, explained: Explanations, pixels: Tensor, has_sides: bool
) -> Tensor:
    """(P,) mean probability of the explained classes over their pixels."""
    if outputs.dtype in (torch.float16, torch.bfloat16):
        outputs = outputs.float()
    logits = outputs[explained.image, explained.target]
    if has_sides:
        of_pixels = logits.sigmoid()
    else:
        of_pixels = (logits - explained.rows_of(outputs.logsumexp(dim=1))).exp()
    counts = pixels.flatten(1).sum(dim=1)
    return (of_pixels * pixels).flatten(1).sum(dim=1) / counts
