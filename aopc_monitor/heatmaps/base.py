"""What a heatmap is, and what all heatmaps that look into the network share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps.engine.backward_pass import BackwardPass, backward_pass
from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.dependence import warn_of_cuts
from aopc_monitor.heatmaps.engine.explained_forward import without_backward_hooks
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.heatmaps.of_texts import are_texts, for_texts, relevance_of_texts
from aopc_monitor.heatmaps.pixel_classes import row_by_row, with_classes_of_images
from aopc_monitor.heatmaps.pooling import check_norm, pooled
from aopc_monitor.network.asked import AskedNetwork
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.layout import suits_channels_last
from aopc_monitor.network.lockstep import current, in_step, together
from aopc_monitor.network.outputs import OutputError, OutputFunction
from aopc_monitor.network.usual_chunks import backward_chunk_size
from aopc_monitor.network.wrappers import unwrapped
from aopc_monitor.perturbation.input_kinds import checked_inputs, kind_of
from aopc_monitor.utilities.checks import check_network, check_target, plain_tensor
from aopc_monitor.utilities.setting_text import setting_text


class Heatmap(Protocol):
    """Any callable of this form can be used as a heatmap."""

    def __call__(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Relevance of each location for the explained class.

        Args:
            model: network that returns (N, classes).
            images: (N, C, H, W), or series (N, C, L), volumes (N, C, D, H, W), tables (N, F).
            target: (N,) explained classes.

        Returns:
            (N, H, W), channels pooled: `(N, *space)` of `(N, C, *space)`, and (N, F) of tables.
        """
        ...


@dataclass(frozen=True)
class NetworkHeatmap(ABC):
    """A heatmap that asks the network: checks, isolation, batches.

    The score explained is the network's output for the class, before any softmax of ours.
    Everything is computed with autocast off, and in float32 where the model is in half precision.

    Attributes:
        output_fn: from what the model returns to (N, classes). If not given: the returned tensor,
            its `.logits`, or the first (N, classes) among several.
        keep_precision: compute a half-precision model as it is; its signals may underflow.
    """

    # Tells callers that the model need not be shielded from it once more.
    isolates: ClassVar[bool] = True
    # Kinds of input that the heatmap makes no sense on, by their name, and why: a sentence.
    unsuited: ClassVar[Mapping[str, str]] = {}

    output_fn: OutputFunction | None = field(default=None, kw_only=True, repr=False)
    keep_precision: bool = field(default=False, kw_only=True, repr=False)

    def __call__(
        self,
        model: nn.Module,
        images: Tensor | Mapping[str, Any],
        target: Tensor | None = None,
    ) -> Tensor:
        """Relevance of each location; the model and its training are left as they were.

        Args:
            model: network that returns (N, classes), or something that holds it; or one that gives
                each pixel a class, (N, classes, H, W), of which the mean logit of the class over
                the pixels that it is given to is explained.
            images: (N, C, H, W) floating point, or inputs of another kind: series (N, C, L),
                volumes (N, C, D, H, W), tables (N, F), token ids (N, T), or a mapping with these
                as `input_ids`.
            target: (N,) explained classes; the predictions if not given, or the classes that cover
                most pixels.

        Returns:
            (N, H, W), or `(N, *space)` of another kind, without gradient.

        Raises:
            TypeError: for images or outputs of the wrong type.
            ValueError: for images or targets of the wrong shape or range, for a kind of input that
                the heatmap makes no sense on, and for a network that is not differentiable in its
                images.
        """
        if are_texts(images):
            return relevance_of_texts(for_texts(self), model, images, target)
        images = checked_inputs(images)
        why = self.unsuited.get(kind_of(images).name)
        if why is not None:
            raise ValueError(why)
        if target is not None:
            check_target(target, len(images))
        with in_step(model):
            images = _laid_out(images, model)
            if current() is None:  # nobody has to be told what is made
                return self._made(model, images, target)
            what = f"{setting_text(self)}, {len(images)}"
            return together(what, lambda: self._made(model, images, target))

    def _made(self, model: nn.Module, images: Tensor, target: Tensor | None) -> Tensor:
        at_once = backward_chunk_size(images) if getattr(self, "keeps_rows", False) else 1
        needs_rows = isinstance(model, AskedNetwork) and model.needs_rows
        if isinstance(model, AskedNetwork) and needs_rows and len(images) > at_once:
            return row_by_row(self._made, model, images, target, at_once)
        try:
            return self._explained(model, images, target)
        except OutputError as error:
            if isinstance(model, AskedNetwork) and model.kept is not None:
                raise
            # No row of classes was found for each image: perhaps there is one for each pixel.
            try:
                asked, target = with_classes_of_images(model, images, target, self.output_fn)
            except OutputError:
                raise error from None
        return self._made(asked, images, target)

    def _explained(self, model: nn.Module, images: Tensor, target: Tensor | None) -> Tensor:
        with network_in_isolation(model, self) as network:
            # Tensors made in inference mode cannot take part in a gradient; their clones can. And a
            # heatmap of the user's own may write into what it is given.
            parts = network.prepared(images.detach().clone()).split(backward_chunk_size(images))
            if target is None:
                targets = [_predictions(network, part) for part in parts]
            else:
                targets = list(plain_tensor(target).long().clone().split(len(parts[0])))
            relevance = [self.relevance(network, x, t) for x, t in zip(parts, targets, strict=True)]
            warn_of_cuts(network, parts[-1], targets[-1])
            return torch.cat(relevance).detach()

    @abstractmethod
    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """`(N, *space)` relevance of `(N, C, *space)` images for (N,) classes."""


@contextmanager
def network_in_isolation(
    model: nn.Module, heatmap: NetworkHeatmap | None = None
) -> Iterator[Network]:
    """The network of a model, to be looked at without a trace, as a heatmap wants it."""
    check_network(model)
    model = unwrapped(model)
    output_fn = None if heatmap is None else heatmap.output_fn
    widen = heatmap is None or not heatmap.keep_precision
    with untouched(model) as parts, without_backward_hooks(parts.modules):
        # Without gradients of parameters, only what depends on the images has one, which is faster,
        # and how rules tell what they are for. `untouched` gives the parameters back as they were.
        for parameter in parts.parameters:
            parameter.requires_grad_(False)
        device = next((p.device.type for p in parts.parameters), "cpu")
        with torch.autocast(device, enabled=False):
            yield Network(model, parts, output_fn, widen=widen)


def _laid_out(images: Tensor, model: nn.Module) -> Tensor:
    """The images as the network is fastest with: on a CPU, for convolutions, the channels last."""
    check_network(model)
    is_asked = images.ndim == 4 and len(images) > 0
    if not is_asked or not suits_channels_last(unwrapped(model), images, is_half=False):
        return images
    return images.contiguous(memory_format=torch.channels_last)


def _predictions(network: Network, images: Tensor) -> Tensor:
    # A clone, since a network may write into what it is given.
    with torch.no_grad():
        return network.outputs(images.clone()).argmax(dim=1)


class BackwardHeatmap(NetworkHeatmap):
    """A heatmap of one forward and one backward pass: its rules, and how channels are pooled."""

    # Tells callers that the model is asked for the images themselves, in their order.
    keeps_rows: ClassVar[bool] = True

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """The backward pass, pooled."""
        return self.pool(images, backward_pass(network, images, target, self.backward_rules))

    def backward_rules(self, images: Tensor) -> BackwardRules | None:
        """What changes the backward pass of `images`; None where it is the plain gradient."""
        return None

    @abstractmethod
    def pool(self, images: Tensor, result: BackwardPass) -> Tensor:
        """Make `(N, *space)` of `(N, C, *space)` images and what came back to them."""


@dataclass(frozen=True)
class NormHeatmap(BackwardHeatmap):
    """A heatmap of the norm over channels of what comes back to the images.

    Attributes:
        norm: "l2" or "linf".
    """

    norm: Literal["l2", "linf"] = "l2"

    def __post_init__(self) -> None:
        check_norm(self.norm)

    def pool(self, images: Tensor, result: BackwardPass) -> Tensor:
        """Norm over channels."""
        return pooled(result.signal, self.norm)
