"""Forwards on a CPU in which a convolution and what follows it are one call of oneDNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import is_not
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.backends.base import Answers, asked
from aopc_monitor.network.backends.chains import Carrying, Chain, Watching
from aopc_monitor.network.backends.state import is_same, settings_of
from aopc_monitor.network.layout import suits_channels_last
from aopc_monitor.network.sharded import is_sharded


class Fused:
    """BatchNorm folded into convolutions, activations computed with them, weights laid out.

    The network is called as it is; its calls of torch are seen on the way. What was made of its
    weights is used as long as they are the same, by the values of them all.
    """

    name: ClassVar[str] = "fused"
    needs: ClassVar[tuple[str, str] | None] = None

    def check(self, inputs: Tensor, autocast: torch.dtype | None) -> None:
        """Raise ValueError where the inputs are on another device, or not in float32."""
        if inputs.device.type != "cpu":
            raise ValueError(
                f'backend="{self.name}" computes on a CPU, and the inputs are on {inputs.device}: '
                'give backend="compile" or "eager", or move the network and its inputs'
            )
        if autocast is not None or inputs.dtype in (torch.float16, torch.bfloat16, torch.float64):
            came_in = f"autocast={autocast}" if autocast is not None else f"inputs={inputs.dtype}"
            raise ValueError(f'{came_in}: backend="{self.name}" computes in float32: give "eager"')

    def answers_of(self, model: nn.Module, inputs: Tensor) -> Answers:
        """The network, called with what was found out about it.

        A network that takes no images with the channels last, or has said nothing yet by which
        that could be told, is called as it is.

        Raises:
            RuntimeError: where nothing would be gained.
        """
        reason = self._reason_against(model, inputs)
        if reason is not None:
            raise RuntimeError(reason)
        if not suits_channels_last(model, inputs, False):  # asked again with other weights
            return Answers(partial(asked, model))
        return self._answers(model, inputs)

    def _reason_against(self, model: nn.Module, inputs: Tensor) -> str | None:
        return reason_against(model, inputs)

    def _answers(self, model: nn.Module, inputs: Tensor) -> Answers:
        network = network_in(model)
        kept = kept_or_made(_KEPT, network, inputs, partial(Watched.of, model, inputs))
        call = partial(carried, network, kept.chains)
        return Answers(partial(asked, model, call=call), 0, torch.channels_last)


def kept_or_made(kept: Any, network: nn.Module, inputs: Tensor, make: Callable[[], Any]) -> Any:
    """What is kept of a network, made anew where it does not fit the network or the inputs."""
    known = kept.get(network)
    if known is None or not known.fits(network, inputs):
        kept.pop(network, None)  # before there is another one
        known = kept[network] = make()
    return known


@dataclass(frozen=True)
class Watched:
    """What was made of a network, and by what it is known to be still the same.

    Attributes:
        chains: the calls that are carried out as one.
        shape: (C, H, W) of the images.
        tensors: weights and statistics in the chains, and copies of them.
        members: parameters and buffers of the network, which others may take the place of.
        settings: of its modules, on which what follows a convolution may depend.
    """

    chains: list[Chain | None]
    shape: torch.Size
    tensors: list[tuple[Tensor, Tensor]]
    members: list[Tensor]
    settings: list[Any]

    @classmethod
    def of(cls, model: nn.Module, inputs: Tensor, every: bool = False) -> Watched:
        """Watch the network while it is asked for one image.

        Args:
            model: the network as it is asked.
            inputs: (N, ...) the batch.
            every: see `Watching`.
        """
        network, watching = network_in(model), Watching(every)
        settings = settings_of(network)  # before its forward writes into any

        def watched(*given: Any, **named: Any) -> Any:
            with watching:
                return network(*given, **named)

        image = inputs[:1].contiguous(memory_format=torch.channels_last).clone()
        one = model.of(0, 1) if isinstance(model, AskedNetwork) else model
        with torch.no_grad():
            asked(one, image, call=watched)
        chains = watching.found()
        tensors = [tensor for chain in chains if chain is not None for tensor in chain.tensors]
        # Not the tensors detached: these would keep the memory that `.data = ...` leaves.
        copies = [(tensor, tensor.detach().clone()) for tensor in tensors]
        return cls(chains, inputs.shape[1:], copies, _members_of(network), settings)

    def fits(self, network: nn.Module, inputs: Tensor) -> bool:
        """Whether images are of the same shape, and the network has not changed since."""
        if inputs.shape[1:] != self.shape or not is_same(self.settings, settings_of(network)):
            return False
        members = _members_of(network)
        if len(members) != len(self.members) or any(map(is_not, members, self.members)):
            return False
        return all(is_same([before], [now.detach()]) for now, before in self.tensors)


# What was made of a network is dropped with it.
_KEPT = WeakIdKeyDictionary()


def _members_of(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


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


def carried(network: nn.Module, chains: Sequence[Chain | None], *inputs: Any, **named: Any) -> Any:
    """What a network returns, its chains carried out as one."""
    carrying = Carrying(chains)
    with torch.no_grad(), carrying:
        answer = network(*inputs, **named)
    carrying.check()
    if carrying.missed:
        _KEPT.pop(network, None)
    return answer
