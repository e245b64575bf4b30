"""Forwards in which stand-ins go through a network in the place of its maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.backends.chains import Carrying, Chain, OtherPathError
from aopc_monitor.network.backends.fusible_calls import link_of, tells_no_numbers, tensors_in
from aopc_monitor.network.backends.patches.kept_maps import Map, Step
from aopc_monitor.network.backends.patches.map_calls import Slot, filled, is_nothing, maps_in

# A stand-in has the shape of a map, and this number at all positions: whoever reads it unseen
# makes an answer of NaN, which is noticed.
_NO_NUMBER = torch.full((), torch.nan)


class _Standing(NamedTuple):
    """What a stand-in stands for: a map; where that ends a chain, after how many of its calls.

    None of these calls: nobody may see the stand-in any more.
    """

    number: int
    chain: Chain | None = None
    stage: int | None = 0


class StandIns(Carrying):
    """A forward of which calls that are given maps are seen; `_carried_out` does what they do.

    The network never sees a map itself, so that in-place calls need not be in place. A call that
    is not known is given the maps themselves, whole.

    Args:
        chains: the convolutions of the network and what follows each.
        maps: what is known of the maps, the images first.
        count: how many images.
    """

    def __init__(self, chains: Sequence[Chain | None], maps: Sequence[Map], count: int) -> None:
        super().__init__(chains)
        self._maps, self._count = maps, count
        self._standing: Any = WeakIdKeyDictionary()

    def answer(self, network: Any) -> Any:
        """What the network returns.

        Raises:
            OtherPathError: where that would be wrong.
        """
        with torch.no_grad(), self:
            answer = network(self._stand_in(_Standing(0)))
        self.check()
        return answer

    def check(self) -> None:
        """Raise unless the forward used all tensors as was foreseen, once it is over."""
        super().check()
        if len(self._standing):
            raise OtherPathError("somebody keeps a map, or the network returns one")

    @abstractmethod
    def _carried_out(self, step: Step) -> Step | None:
        """Do what a call does, whose inputs are known; None where it is not known what it does."""

    @abstractmethod
    def _whole(self, number: int) -> Tensor:
        """A whole map (M, C, H, W)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not len(self._standing.data) or _is_of_any_layout(func):
            return super().__torch_function__(func, types, args, kwargs)
        seen = [self._standing[t] for t in tensors_in(args, kwargs) if t in self._standing]
        if not seen:
            return super().__torch_function__(func, types, args, kwargs)
        if any(standing.chain is not None for standing in seen):
            return self._linked(func, args, kwargs)
        if is_nothing(func, args, kwargs):
            return args[0]
        slots = _with_slots(args, self._standing), _with_slots(kwargs, self._standing)
        step = self._carried_out(Step(func, *slots, maps_in(slots)))
        if step is None:
            return self._called_in_full(func, *slots)
        return self._output_of(step, args)

    def _output_of(self, step: Step, args: Sequence[Any]) -> Tensor:
        """What stands for the map that a step has made."""
        chain = step.chain
        if chain is not None:
            self._next += 1
        has_links = chain is not None and bool(chain.links)
        standing = _Standing(step.output, chain if has_links else None)
        if step.operation is not None and step.operation.in_place:
            given: Tensor = args[0]
            self._standing[given] = standing
            return given
        return self._stand_in(standing)

    def _linked(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """A call that has been carried out with the convolution before it."""
        number, chain, stage = self._standing.get(args[0], _Standing(0)) if args else _Standing(0)
        if chain is None or stage is None or link_of(func, args, kwargs) != chain.links[stage]:
            self._leave(f"{_name_of(func)} is given what a convolution returned")
        is_last = stage + 1 == len(chain.links)
        after = _Standing(number) if is_last else _Standing(number, chain, stage + 1)
        given: Tensor = args[0]
        if chain.links[stage].in_place:
            self._standing[given] = after
            return given
        self._standing[given] = _Standing(number, chain, None)
        return self._stand_in(after)

    def _leave(self, why: str) -> NoReturn:
        """Raise; a network that goes on all the same gives no answer, either."""
        self._left = why
        raise OtherPathError(why)

    def _called_in_full(self, func: Any, args: Any, kwargs: Any) -> Any:
        wholes = {number: self._whole(number) for number in maps_in((args, kwargs))}
        given = filled(args, wholes), filled(kwargs, wholes)
        return super().__torch_function__(func, (), *given)

    def _stand_in(self, standing: _Standing) -> Tensor:
        of = self._maps[standing.number]
        tensor = _NO_NUMBER.expand(self._count, of.channels, *of.sides)
        self._standing[tensor] = standing
        return tensor


def _is_of_any_layout(func: Any) -> bool:
    """Whether a call tells of a stand-in what it would of the map."""
    return tells_no_numbers(func) and func not in (Tensor.stride, Tensor.is_contiguous)


def _name_of(func: Any) -> str:
    return str(getattr(func, "__name__", func))


def _with_slots(value: Any, standing: Mapping[Tensor, _Standing]) -> Any:
    if isinstance(value, Tensor):
        return Slot(standing[value].number) if value in standing else value
    if isinstance(value, dict):
        return {name: _with_slots(member, standing) for name, member in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_with_slots(member, standing) for member in value)
    return value
