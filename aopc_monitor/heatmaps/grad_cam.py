"""Grad-CAM: which places of a layer's activations raise the score."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aopc_monitor.heatmaps.base import NetworkHeatmap
from aopc_monitor.heatmaps.channel_axis import channel_axis
from aopc_monitor.heatmaps.engine.dependence import where_it_ends
from aopc_monitor.heatmaps.engine.explained_network import Network
from aopc_monitor.heatmaps.engine.operation_names import Operation, plain_name
from aopc_monitor.heatmaps.rules.linear_operation import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from aopc_monitor.utilities.checks import check_target

_TOO_EARLY = (
    "Grad-CAM's default layer, the last convolution, is the patch embedding of this network, which "
    "knows nothing of classes: name a later layer that has places, as in GradCAM(layer=...), or "
    "choose another heatmap"
)
# By the number of dimensions of a batch: what activations with places look like, and how they are
# interpolated to the locations of the inputs.
_PLACES = {3: "(N, channels, l)", 4: "(N, channels, h, w)", 5: "(N, channels, d, h, w)"}
_INTERPOLATIONS = {3: "linear", 4: "bilinear", 5: "trilinear"}


@dataclass(frozen=True)
class GradCAM(NetworkHeatmap):
    """Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2): where a layer's channels speak for the class.

    The ReLU of the sum of a layer's (N, C, h, w) activations over channels, each channel weighted
    by the mean over places of the score's gradient; interpolated to the pixels bilinearly. Never
    negative, and as coarse as the layer. The same of series, with activations (N, C, l), and of
    volumes, with (N, C, d, h, w); tables have no places.

    Activations (N, h, w, C), as in Swin, are told apart by their places, which are in proportion to
    the pixels, or by the operations that made them.

    Attributes:
        layer: name of a module as in `model.named_modules()`; the end of a name suffices if it is
            the end of one only, so that the name of a layer in a network also finds it where the
            network is part of a LightningModule. Of a module that is called several times, the last
            call counts. If not given: the last convolution whose output has more than one place
            and on which the scores depend.
            In a vision transformer that is the patch embedding, which knows nothing of classes:
            choose another heatmap there.

    Raises:
        ValueError: on calling, for a layer that does not exist, is not reached, has no places, or
            whose channels cannot be told from its places; and for tables.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        >>> GradCAM(layer="1")(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 8, 8])
    """

    # Tells callers that the model is asked for the images themselves, in their order.
    keeps_rows: ClassVar[bool] = True
    unsuited: ClassVar[Mapping[str, str]] = {
        "tables": "Grad-CAM does not apply to tables (N, F), which have no places that a "
        "convolution could keep: choose another heatmap, such as gradient_x_input"
    }

    layer: str | None = None

    def __post_init__(self) -> None:
        if self.layer is not None and not isinstance(self.layer, str):
            raise TypeError(
                f"layer is a {type(self.layer).__name__}; wanted is the name of a module, as in "
                "model.named_modules()"
            )

    def relevance(self, network: Network, images: Tensor, target: Tensor) -> Tensor:
        """The weighted sum of activations, on the pixels."""
        if images.ndim not in _PLACES:
            raise ValueError(
                "Grad-CAM is for inputs of one to three dimensions beside their channels, and "
                f"these are {tuple(images.shape)}: choose another heatmap"
            )
        images = images.detach().requires_grad_()
        with self._watched(network.model, images.ndim) as seen:
            outputs = network.outputs(images.clone())
        target = target.to(outputs.device)
        check_target(target, *outputs.shape)
        if not outputs.requires_grad:
            raise ValueError(
                "the model's outputs do not depend differentiably on its images, so there is "
                f"nothing to show{where_it_ends(network, images)}"
            )
        scores = outputs.gather(1, target[:, None])[:, 0]
        activations, gradient = self._with_gradient(seen, scores, images.ndim)
        if self.layer is None and _is_patch_embedding(activations, seen):
            warnings.warn(EarlyLayerWarning(_TOO_EARLY), stacklevel=3)
        if self.layer is not None:
            activations, gradient = self._channels_second((activations, gradient), images)
        weights = gradient.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
        coarse = F.relu((weights * activations.detach()).sum(dim=1, keepdim=True))
        mode = _INTERPOLATIONS[images.ndim]
        return F.interpolate(coarse, images.shape[2:], mode=mode, align_corners=False)[:, 0]

    def _channels_second(self, tensors: tuple[Tensor, Tensor], images: Tensor) -> Iterator[Tensor]:
        """Activations and their gradient as `(N, channels, *places)`."""
        axis = channel_axis(tensors[0], images)
        if axis is None:
            raise ValueError(
                f"{self._name} gave {tuple(tensors[0].shape)}, of which either the second or the "
                "last dimension may be the channels: choose a layer where they differ, or the "
                "convolution or normalisation before it"
            )
        return (tensor.movedim(axis, 1) for tensor in tensors)

    @contextmanager
    def _watched(self, model: nn.Module, dimensions: int) -> Iterator[list[Any]]:
        """Collects what comes out of the layer, the last one at the end."""
        seen: list[Any] = []
        if self.layer is None:
            with _Convolutions(seen, dimensions):
                yield seen
            return
        handle = _module(model, self.layer).register_forward_hook(
            lambda module, inputs, output: _followed(output, seen)
        )
        try:
            yield seen
        finally:
            handle.remove()

    @property
    def _name(self) -> str:
        return "the last convolution" if self.layer is None else f"layer={self.layer!r}"

    def _with_gradient(
        self, seen: list[Any], scores: Tensor, dimensions: int
    ) -> tuple[Tensor, Tensor]:
        """The layer's activations, and the scores' gradient there.

        By default they are those of the last convolution on which the scores depend. The last one
        of all may encode positions of tokens that the classifier does not read, as in CoaT.
        """
        if self.layer is None:
            seen = [s for s in seen if len(s) == len(scores) and s[0, 0].numel() > 1]
        last = self._checked(seen, len(scores), dimensions)
        none_depends = True
        for activations in [last] if self.layer is not None else reversed(seen):
            (gradient,) = torch.autograd.grad(
                scores.sum(), activations, retain_graph=True, allow_unused=True
            )
            none_depends = none_depends and gradient is None
            if gradient is not None and (self.layer is not None or bool(gradient.any())):
                return activations, gradient
        if none_depends:
            raise ValueError(f"{self._name}: the class scores do not depend on its output")
        return last, torch.zeros_like(last)  # the last layer's weights are zero at the beginning

    def _checked(self, seen: list[Any], num_images: int, dimensions: int) -> Tensor:
        places = _PLACES[dimensions]
        # The tokens of images and volumes have lost their places; those of series are the steps.
        of_tokens = "It does not apply to tokens (N, L, channels) of a transformer: "
        needed = (
            f"Grad-CAM needs activations of shape {places}. {of_tokens if dimensions > 3 else ''}"
            "choose a convolutional layer, or another heatmap"
        )
        if not seen:
            found = (
                f"layer is not given, and no convolution with an output {places} of more than one "
                "place was met"
                if self.layer is None
                else f"{self._name} was not called in the forward pass"
            )
            raise ValueError(f"{found}. {needed}")
        activations = seen[-1]
        if not isinstance(activations, Tensor):
            raise ValueError(f"{self._name} returns a {type(activations).__name__}. {needed}")
        if activations.ndim != dimensions or len(activations) != num_images:
            raise ValueError(f"{self._name} gave {tuple(activations.shape)}; {needed}")
        if not activations.requires_grad:
            raise ValueError(f"{self._name}: its output does not depend on the images")
        return activations


class EarlyLayerWarning(UserWarning):
    """Grad-CAM looks at a layer that comes before all that knows of classes."""


def _is_patch_embedding(activations: Tensor, seen: list[Any]) -> bool:
    """Whether the only convolution cuts the images into patches, as in vision transformers."""
    stride = getattr(activations.grad_fn, "_saved_stride", (1,))
    return len(seen) == 1 and min(stride) >= 4


def _followed(output: Any, seen: list[Any]) -> Any:
    """Note an output, and let the network go on with a copy that it may write into."""
    seen.append(output)
    return output.clone() if isinstance(output, Tensor) else output


class _Convolutions(TorchFunctionMode):
    """Collects the outputs of convolutions over the places of images that depend on these."""

    def __init__(self, seen: list[Any], dimensions: int) -> None:
        super().__init__()
        self.seen, self.dimensions = seen, dimensions

    def __torch_function__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        is_one = plain_name(func) in _CONVOLUTIONS and result.ndim == self.dimensions
        return _followed(result, self.seen) if is_one and result.requires_grad else result


_CONVOLUTIONS = frozenset({*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, "convolution"})


def _module(model: nn.Module, name: str) -> nn.Module:
    """The module of that name, or the only one whose name ends so."""
    modules = {path: module for path, module in model.named_modules() if path}
    if name in modules:
        return modules[name]
    ending = [path for path in modules if path.endswith(f".{name}")]
    if len(ending) == 1:
        return modules[ending[0]]
    if ending:
        raise ValueError(
            f"layer={name!r} is the end of several names: {', '.join(ending)}. Give one of these"
        )
    near = difflib.get_close_matches(name, modules, n=5, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"it ends in {list(modules)[-5:]}."
    raise ValueError(
        f"layer={name!r} is no layer of the {type(model).__name__}: {hint} All are in "
        "model.named_modules()"
    )
