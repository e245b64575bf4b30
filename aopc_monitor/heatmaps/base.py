"""What a heatmap is, and what all heatmaps of one backward pass share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from aopc_monitor.checks import check_images, check_target
from aopc_monitor.heatmaps.backward import BackwardRules
from aopc_monitor.isolation import untouched
from aopc_monitor.scores import class_outputs

IMAGES_PER_BACKWARD = 32


class Heatmap(Protocol):
    """Any callable of this form can be used as a heatmap."""

    def __call__(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Relevance of each pixel for the explained class.

        Args:
            model: network that returns (N, classes).
            images: (N, C, H, W).
            target: (N,) explained classes.

        Returns:
            (N, H, W), channels pooled.
        """
        ...


class BackwardHeatmap(ABC):
    """A heatmap of one forward and one backward pass: its rules, and how channels are pooled.

    The backward pass starts at the class score as the network returns it, before any softmax of
    ours. Gradients are taken in the precision of the images, autocast off.
    """

    def __call__(self, model: nn.Module, images: Tensor, target: Tensor | None = None) -> Tensor:
        """Relevance of each pixel; the model and its training are left as they were.

        Args:
            model: network that returns (N, classes), or an object with that as `.logits`.
            images: (N, C, H, W) floating point.
            target: (N,) explained classes; the predictions if not given.

        Returns:
            (N, H, W), without gradient.

        Raises:
            TypeError: for images or outputs of the wrong type.
            ValueError: for images or targets of the wrong shape or range, and for a network that
                is not differentiable in its images.
        """
        check_images(images)
        with untouched(model), torch.autocast(images.device.type, enabled=False):
            # Tensors made in inference mode cannot take part in a gradient; their clones can.
            parts = images.detach().clone().split(IMAGES_PER_BACKWARD)
            if target is None:
                targets: list[Tensor | None] = [None] * len(parts)
            else:
                check_target(target, len(images), torch.iinfo(torch.long).max)
                targets = list(target.long().clone().split(IMAGES_PER_BACKWARD))
            return torch.cat(
                [self._explain(model, x, t) for x, t in zip(parts, targets, strict=True)]
            )

    def _explain(self, model: nn.Module, images: Tensor, target: Tensor | None) -> Tensor:
        # Then only what depends on the images has a gradient, which is faster, and how the rules
        # tell what they are for. `untouched` gives the parameters back as they were.
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        images.requires_grad_()
        # The network gets a clone, so that its first operation may work in place.
        entrance, count = images.clone(), len(images)
        with self.rules(entrance) as rules:
            outputs = class_outputs(model(entrance), count)
            if rules is not None:
                rules.check_outputs(outputs)
        target = outputs.argmax(dim=1) if target is None else target.to(outputs.device)
        check_target(target, *outputs.shape)
        gradient = self._gradient(outputs.gather(1, target[:, None]).sum(), images)
        return self.pool(images.detach(), gradient)

    def _gradient(self, score: Tensor, images: Tensor) -> Tensor:
        # autograd.grad and not .backward(): the parameters' .grad stays out of it.
        gradient = (
            torch.autograd.grad(score, images, allow_unused=True)[0]
            if score.requires_grad
            else None
        )
        if gradient is None:
            raise ValueError(
                f"the model's outputs do not depend differentiably on its images, so {self} has "
                "nothing to show: look for .detach(), .data, torch.no_grad or rounding in forward"
            )
        return gradient

    def rules(self, images: Tensor) -> AbstractContextManager[BackwardRules | None]:
        """Context for the forward pass of `images` that changes what its backward pass will be."""
        return nullcontext()

    @abstractmethod
    def pool(self, images: Tensor, gradient: Tensor) -> Tensor:
        """From images and the backward signal at them, both (N, C, H, W), to (N, H, W)."""


def pooled_norm(signal: Tensor, norm: str) -> Tensor:
    """Norm over channels (eq. 3): (N, C, H, W) to (N, H, W).

    Example:
        >>> signal = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
        >>> pooled_norm(signal, "l2").item(), pooled_norm(signal, "linf").item()
        (5.0, 4.0)
    """
    return torch.linalg.vector_norm(signal, ord=_NORMS[norm], dim=1)


def check_norm(norm: str) -> None:
    """Raise ValueError unless the norm is known."""
    if norm not in _NORMS:
        raise ValueError(f"norm={norm!r} is unknown: choose one of {', '.join(_NORMS)}")


_NORMS = {"l2": 2.0, "linf": float("inf")}
