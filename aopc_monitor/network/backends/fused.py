"""Forwards on a CPU in which a convolution and what follows it are one call of oneDNN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.backends.base import Answers, asked
from aopc_monitor.network.backends.chains import Carrying, Chain, Watching
from aopc_monitor.network.layout import suits_channels_last
from aopc_monitor.network.sharded import is_sharded


class Fused:
    """BatchNorm folded into convolutions, activations computed with them, weights laid out.

    The network is called as it is; its calls of torch are seen on the way. Weights are folded for
    each batch, from the network as it is then: nothing is kept, and nothing can be stale.
    """

    needs: ClassVar[tuple[str, str] | None] = None

    def check(self, inputs: Tensor, autocast: torch.dtype | None) -> None:
        """Raise ValueError where the inputs are on another device, or not in float32."""
        if inputs.device.type != "cpu":
            raise ValueError(
                f'backend="fused" computes on a CPU, and the inputs are on {inputs.device}: '
                'give backend="compile" or "eager", or move the network and its inputs'
            )
        if autocast is not None or inputs.dtype in (torch.float16, torch.bfloat16, torch.float64):
            came_in = f"autocast={autocast}" if autocast is not None else f"inputs={inputs.dtype}"
            raise ValueError(f'{came_in}: backend="fused" computes in float32: give "eager"')

    def answers_of(self, model: nn.Module, inputs: Tensor) -> Answers:
        """The network, whose convolutions are carried out with what follows them.

        A network that takes no images with the channels last, or has said nothing yet by which
        that could be told, is called as it is.

        Raises:
            RuntimeError: where nothing can be fused.
        """
        reason = reason_against(model, inputs)
        if reason is not None:
            raise RuntimeError(reason)
        if not suits_channels_last(model, inputs, False):  # asked again with other weights
            return Answers(partial(asked, model))
        network, watching = network_in(model), Watching()

        def watched(*given: Any, **named: Any) -> Any:
            with watching:
                return network(*given, **named)

        image = inputs[:1].contiguous(memory_format=torch.channels_last).clone()
        one = model.of(0, 1) if isinstance(model, AskedNetwork) else model
        with torch.no_grad():
            asked(one, image, call=watched)
            call = partial(_carried, network, watching.found())
        return Answers(partial(asked, model, call=call), 0, torch.channels_last)


def reason_against(model: nn.Module, inputs: Tensor) -> str | None:
    """Why nothing can be fused for these inputs (N, ...); None if it can."""
    network = network_in(model)
    if not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN"
    if inputs.ndim != 4:
        return "only forwards of images are fused"
    if torch.is_autocast_enabled("cpu"):
        return "the network computes in half precision here"
    if is_sharded(network):
        return "the weights of the network are spread over processes"
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        return "the network is a scripted one, which hides what it does"
    return None


def _carried(network: nn.Module, chains: Sequence[Chain | None], *inputs: Any, **named: Any) -> Any:
    carrying = Carrying(chains)
    with torch.no_grad(), carrying:
        answer = network(*inputs, **named)
    carrying.check()
    return answer
