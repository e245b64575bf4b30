"""A model as heatmaps see it: from images to class scores, in a precision that gradients need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules
from aopc_monitor.heatmaps.engine.explained_forward import ExplainedForward
from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.isolation import Parts
from aopc_monitor.network.outputs import OutputFunction, class_outputs
from aopc_monitor.network.reading import Reading
from aopc_monitor.network.sharded import is_sharded
from aopc_monitor.network.snapshot import held_tensors

HALF = (torch.float16, torch.bfloat16)


class Network:
    """From images to (N, classes) outputs.

    Args:
        model: network that returns (N, classes), or something that holds it (`chosen_output`).
        parts: what it is made of.
        output_fn: from what the model returns to (N, classes), if it is something else.
        widen: computes a model whose parameters are in half precision with copies of them in
            float32, since signals of a backward pass underflow in float16. Not where parameters are
            spread over processes, none of which has room for such copies.

    Attributes:
        model: the model, whose layers have the names that users know.
        dtype: precision of the images it is given, None for that of the images themselves.
        cut_offs: calls of the last forward pass that cut off what the outputs may depend on.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: Parts,
        output_fn: OutputFunction | None = None,
        *,
        widen: bool = True,
    ) -> None:
        if output_fn is not None:  # of the heatmap, in place of another one
            asked = model if isinstance(model, AskedNetwork) else AskedNetwork(model)
            # Outputs of pixels have to be summed up all the same.
            reading = asked.reading if asked.kept is not None else Reading()
            model = asked.read_by(replace(reading, output_fn=output_fn))
        self.model, self._called, self._parts = network_in(model), model, parts
        self.cut_offs: list[str] = []
        buffers = [b for module in parts.modules for b in module._buffers.values() if b is not None]
        dtypes = [tensor.dtype for tensor in (*parts.parameters, *buffers)]
        has_halves = any(dtype in HALF for dtype in dtypes)
        widen = widen and has_halves and not is_sharded(model)
        self.dtype = torch.float32 if widen else None
        floats = (dtype for dtype in dtypes if dtype.is_floating_point)
        self._wide_dtype = None if has_halves else next(floats, None)
        self._wide = _widened_state(model) if widen else {}
        # What a forward finds in the modules; None once one may have put something else there.
        self._held = None if self._wide else parts.held

    def outputs(
        self, images: Tensor, rules: BackwardRules | None = None, *, undo_cuts: bool = False
    ) -> Tensor:
        """(N, classes) outputs, on the graph of the images unless gradients are off.

        Args:
            images: (N, C, H, W).
            rules: what the calls of the forward pass get another backward pass by.
            undo_cuts: undo what cuts off (see `CutOffs`), to see whether it matters.
        """
        if not torch.is_grad_enabled():
            return self._outputs(images)
        held = held_tensors(self._parts.modules) if self._held is None else self._held
        with ExplainedForward(held, rules, undo=undo_cuts) as forward:
            outputs = self._outputs(images)
        self.cut_offs = forward.cut_offs.causes_for(outputs)
        return outputs

    def _outputs(self, images: Tensor) -> Tensor:
        self._held = None
        if self._wide:
            _widen_attributes(self.model)
            with _default_dtype(torch.float32):
                answer = torch.func.functional_call(self._called, self._wide, (images,))
        else:
            answer = self._called(images)
        return class_outputs(answer, len(images))

    def prepared(self, images: Tensor) -> Tensor:
        """The images in the precision that the network is computed in."""
        if self.dtype is not None:
            return images.to(self.dtype)
        # Autocast, under which half-precision images go into any network, is off here.
        if images.dtype in HALF and self._wide_dtype is not None:
            return images.to(self._wide_dtype)
        return images


def _widened_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies in float32 of what a model has in half precision, by name."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {n: tensor.detach().float() for n, tensor in tensors.items() if tensor.dtype in HALF}


def _widen_attributes(model: nn.Module) -> None:
    """Put tensors that modules keep for eval mode beside their parameters into float32 as well.

    `untouched`, within which networks are explained, gives modules back what they had.
    """
    own = vars(nn.Module())
    for module in model.modules():
        attributes = {name: value for name, value in vars(module).items() if name not in own}
        vars(module).update({name: _widened(value) for name, value in attributes.items()})


def _widened(value: Any) -> Any:
    """A tensor in float32 if it was in half precision; dicts and lists are changed in place."""
    if isinstance(value, Tensor) and value.dtype in HALF:
        return value.detach().float()
    if type(value) in (dict, list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(member, Tensor):
                value[key] = _widened(member)
    return value


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set the precision of constants that a forward makes; trainers in half precision change it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
