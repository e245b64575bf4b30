"""Convolutions and what follows them: found out in one forward, carried out as one in others.

Both go by the tensors themselves. What a convolution returns may go into the next call only if
nothing else ever sees it: no other call, and nobody who keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.backends.fusible_calls import (
    Activation,
    BatchNorm,
    Convolution,
    Link,
    convolution_of,
    link_of,
    tells_no_numbers,
    tensors_in,
)

# Images of a forward that weights are laid out for; other numbers may be as fast.
USUAL_IMAGES = 16
# The side of patches of a map that they are laid out for.
USUAL_PATCH = 8


class OtherPathError(RuntimeError):
    """A network has used a tensor in another way than when it was watched."""


@dataclass(eq=False)
class Chain:
    """A call of a convolution, and the calls that follow it and nothing else does.

    Attributes:
        convolution: the call.
        shape: (C, H, W) of what it was given.
        links: what follows, in turn.
        most: no more may follow: what comes after so many has been seen by others.
        needs_norm: whether an activation may follow only after BatchNorm.
    """

    convolution: Convolution
    shape: torch.Size
    links: list[Link] = field(default_factory=list)
    most: int = 2
    needs_norm: bool = True

    def add(self, stage: int, link: Link | None) -> bool:
        """Let a call follow what came after so many others, if it may."""
        fits = stage == len(self.links) < self.most and link is not None
        # BatchNorm first, then an activation.
        is_last = bool(self.links) or not (self.needs_norm or isinstance(link, BatchNorm))
        fits = fits and isinstance(link, Activation if is_last else BatchNorm)
        if fits and link is not None:
            self.links.append(link)
        return fits

    def cut(self, stage: int) -> None:
        """Others have seen what came after so many calls."""
        self.most = min(self.most, stage)
        del self.links[self.most :]

    @property
    def tensors(self) -> list[Tensor]:
        """Weights and statistics of all its calls."""
        norms = [tensor for n in self.links if isinstance(n, BatchNorm) for tensor in n.tensors]
        found = (self.convolution.weight, self.convolution.bias, *norms)
        return [tensor for tensor in found if tensor is not None]

    def __call__(self, images: Tensor) -> Tensor:
        """All of it at once."""
        return self._carried_out(images, *self._weights, self.convolution.how)

    def on_patches(self, patches: Tensor) -> Tensor:
        """The same of patches (M, C, h, w) that hold all that their outputs are made of.

        Along a dimension in which the convolution looks at single positions, they hold only those
        that it looks at.
        """
        return self._carried_out(patches, *self._weights_of_patches, self._how_of_patches)

    def _carried_out(
        self, images: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[Any, ...]
    ) -> Tensor:
        activation = next((n for n in self.links if isinstance(n, Activation)), Activation("none"))
        outputs: Tensor = torch.ops.mkldnn._convolution_pointwise(
            images, weight, bias, *how, activation.name, activation.scalars, ""
        )
        return outputs

    @cached_property
    def _how_of_patches(self) -> tuple[list[int], list[int], list[int], int]:
        of, sides = self.convolution, self.convolution.weight.shape[2:]
        stride = [1 if side == 1 else step for side, step in zip(sides, of.stride, strict=True)]
        return [0, 0], stride, of.dilation, of.groups

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor | None]:
        return self._laid_out(self.convolution.how, self.shape)

    @cached_property
    def _weights_of_patches(self) -> tuple[Tensor, Tensor | None]:
        of = self.convolution
        sides = [
            (side - 1) * apart + USUAL_PATCH
            for side, apart in zip(of.weight.shape[2:], of.dilation, strict=True)
        ]
        return self._laid_out(self._how_of_patches, (self.shape[0], *sides))

    def _laid_out(self, how: tuple[Any, ...], shape: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.convolution.weight.detach(), self.convolution.bias
        if self.links and isinstance(self.links[0], BatchNorm):
            weight, bias = self.links[0].folded(weight, bias)
        laid_out = torch.ops.mkldnn._reorder_convolution_weight(
            weight.contiguous(), *how, (USUAL_IMAGES, *shape)
        )
        return laid_out, bias


class Watching(TorchFunctionMode):
    """Finds the chains of a forward, which goes on as it would; see `found`.

    Args:
        every: whether a convolution with no BatchNorm after it begins a chain, too.
    """

    def __init__(self, every: bool = False) -> None:
        super().__init__()
        self._every = every
        self._chains: list[Chain | None] = []
        # Tensors of which a chain may go on, as long as they live: the chain, and after how many
        # calls each has come.
        self._seen: Any = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if tells_no_numbers(func):
            return func(*args, **kwargs)
        known = self._followed(func, args, kwargs)
        outputs = func(*args, **kwargs)
        if known is not None:
            chain, stage = known
            if chain.links[stage].in_place:  # what was there before is gone
                del self._seen[outputs]
            if not isinstance(chain.links[stage], Activation):
                self._seen[outputs] = (chain, stage + 1)
        elif func is torch.conv2d:
            convolution = convolution_of(args, kwargs)
            begun = None
            if convolution is not None:
                begun = Chain(convolution, args[0].shape[1:], needs_norm=not self._every)
                self._seen[outputs] = (begun, 0)
            self._chains.append(begun)
        return outputs

    def _followed(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Chain, int] | None:
        """The chain that a call goes on with; the others that it sees end there."""
        seen = [tensor for tensor in tensors_in(args, kwargs) if tensor in self._seen]
        if len(seen) == 1 and args and seen[0] is args[0]:
            chain, stage = self._seen[args[0]]
            if chain.add(stage, link_of(func, args, kwargs)):
                return chain, stage
        for tensor in seen:
            chain, stage = self._seen[tensor]
            chain.cut(stage)
        return None

    def found(self) -> list[Chain | None]:
        """The chains by the number of the call of `torch.conv2d`, after the forward.

        None stands for a call with no BatchNorm after it, where nothing would be gained, unless
        every one is a chain; and for one that oneDNN cannot carry out.
        """
        for chain, stage in list(self._seen.values()):  # somebody keeps these
            chain.cut(stage)
        if self._every:
            return self._chains
        return [chain if chain is not None and chain.links else None for chain in self._chains]


class Carrying(TorchFunctionMode):
    """Carries out a forward by chains that were found in another one, see `check`.

    A convolution at once gives what its chain ends with, for which the following calls only stand.

    Args:
        chains: what `Watching.found` has found.

    Attributes:
        missed: whether a convolution was another one than when it was watched.
    """

    def __init__(self, chains: Sequence[Chain | None]) -> None:
        super().__init__()
        self._chains, self._next = chains, 0
        # Tensors with the numbers of a later one: the chain, and after how many calls they came.
        self._ahead: Any = WeakIdKeyDictionary()
        self._left: str | None = None
        self.missed = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if len(self._ahead.data) and not tells_no_numbers(func):
            for tensor in tensors_in(args, kwargs):
                if tensor in self._ahead:
                    return self._following(func, args, kwargs)
        if func is torch.conv2d:
            return self._convolved(func, args, kwargs)
        return func(*args, **kwargs)

    def _convolved(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        chain = self._chains[self._next] if self._next < len(self._chains) else None
        self._next += 1
        convolution = convolution_of(args, kwargs) if chain is not None else None
        if chain is None or convolution is None or not chain.convolution.is_same(convolution):
            self.missed |= chain is not None
            return func(*args, **kwargs)
        outputs = chain(args[0])
        if chain.links:
            self._ahead[outputs] = (chain, 0)
        return outputs

    def _following(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        given = [tensor for tensor in tensors_in(args, kwargs) if tensor in self._ahead]
        chain, stage = self._ahead[given[0]]
        is_first = len(given) == 1 and args and given[0] is args[0]
        if not is_first or stage is None or link_of(func, args, kwargs) != chain.links[stage]:
            self._left = f"{getattr(func, '__name__', func)} is given what a convolution returned"
            raise OtherPathError(self._left)
        tensor: Tensor = args[0]
        if chain.links[stage].in_place:
            outputs = tensor
            del self._ahead[tensor]
        else:
            outputs = tensor.data
            self._ahead[tensor] = (chain, None)  # nobody else may see it
        if stage + 1 < len(chain.links):
            self._ahead[outputs] = (chain, stage + 1)
        return outputs

    def check(self) -> None:
        """Raise unless the forward used all tensors as the other one did, once it is over.

        Raises:
            OtherPathError: if not; what it returned is wrong then.
        """
        if self._left is None and len(self._ahead):
            self._left = "somebody keeps what a convolution returned"
        if self._left is not None:
            raise OtherPathError(f"{self._left}, and nobody did when the network was watched")
