"""Whether a network takes images with the channels last in memory, and may be faster so."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.lockstep import together
from aopc_monitor.network.outputs import class_outputs
from aopc_monitor.network.parts import modules_of, parameters_of
from aopc_monitor.network.weight_changes import weight_changes

# What another order of summation may change in float32, amply.
LAYOUT_TOLERANCE = 1e-3
# Each pass brings the weights into the layout. Of a convolution with more of them than this for
# each number in the images, that takes longer than the layout saves.
MOST_WEIGHTS = 64
# What was found out about networks, as long as they exist; these are facts, not settings.
_LAYOUTS = WeakIdKeyDictionary()


def suits_channels_last(model: nn.Module, images: Tensor, is_half: bool) -> bool:
    """Whether images (N, C, H, W) go with the channels last, inside `untouched(model)`.

    They do where they come so; else where that may be faster, and the network answers alike.

    Args:
        model: the network.
        images: the batch.
        is_half: whether forwards are carried out in half precision.
    """
    if _has_channels_last(images):
        return True
    if images.ndim != 4 or (images.device.type != "cpu" and not is_half):
        return False  # where it pays little
    parameters = parameters_of(modules_of(model))
    may_pay = _may_pay(parameters, images.numel())
    return may_pay and _takes_channels_last(model, parameters, images)


def _has_channels_last(images: Tensor) -> bool:
    """Whether whoever gave the images has chosen the layout."""
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


def _may_pay(parameters: list[nn.Parameter], numbers: int) -> bool:
    """Whether the layout can make forwards cheaper: of convolutions, which have 4-d weights."""
    there = [p for p in parameters if type(p) is nn.Parameter or not is_lazy(p)]
    of_convolutions = [p for p in there if p.ndim == 4]
    # Weights of one position lie in memory alike in both layouts.
    sizes = [p.numel() for p in of_convolutions if p.shape[2:] != (1, 1)]
    return bool(of_convolutions) and max(sizes, default=0) <= MOST_WEIGHTS * numbers


def _takes_channels_last(model: nn.Module, parameters: list[nn.Parameter], images: Tensor) -> bool:
    """Whether the network takes the layout, and its outputs do not depend on it.

    A network that counts on the usual layout, by `view` for instance, raises. With other weights it
    is asked again: at the start of a training outputs may say little.
    """
    weights = weight_changes(parameters)
    known_weights, known = _LAYOUTS.get(network_in(model), (None, {}))
    if known_weights != weights:
        known = {}
        _LAYOUTS[network_in(model)] = (weights, known)
    kind = (images.shape[1:], images.dtype, images.device)
    if kind not in known:
        try:
            known[kind] = together("layouts", lambda: _answers_alike(model, images[:1]))
        except Exception:  # one that has nothing to do with the layout comes again where it counts
            known[kind] = False
    return bool(known[kind])


def _answers_alike(model: nn.Module, image: Tensor) -> bool:
    few = torch.cat([image, image.flip(-1)])  # two that differ
    if isinstance(model, AskedNetwork):
        model = model.of(0, 1)
    laid_out = few.to(memory_format=torch.channels_last)
    with untouched(model), torch.no_grad():  # each time from the same random numbers
        usual = _outputs(model, few.clone())
    with untouched(model), torch.no_grad():
        other = _outputs(model, laid_out.clone())
    # The tolerance is a share of how far images move the outputs: constant ones would tell nothing.
    said = (usual[0] - usual[1]).abs().max()
    tolerance = max(LAYOUT_TOLERANCE, 8 * torch.finfo(usual.dtype).eps)
    return bool((said > 0) & ((other - usual).abs().max() <= tolerance * said))


def _outputs(model: nn.Module, images: Tensor) -> Tensor:
    # A network that is asked by way of a reading gives the outputs themselves, of any shape.
    answer = model(images)
    return answer if isinstance(model, AskedNetwork) else class_outputs(answer, len(images))
