"""Three forwards of a network: one finds out a plan, one goes by it in full, and one on patches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aopc_monitor.network.backends.chains import Chain, OtherPathError
from aopc_monitor.network.backends.fusible_calls import convolution_of, tensors_in
from aopc_monitor.network.backends.patches.kept_maps import KeptMaps, Map, Plan, Step
from aopc_monitor.network.backends.patches.map_calls import Slot, filled, operation_of
from aopc_monitor.network.backends.patches.map_operations import Operation, of_chain
from aopc_monitor.network.backends.patches.reach import Numbers, Reach
from aopc_monitor.network.backends.patches.stand_ins import StandIns

# Patches of more of a map than this are not worth taking them out and putting them back.
MOST_OF_MAP = 2 / 3
# Of the maps of a chunk that are computed on patches; those after them are computed in full.
MOST_BYTES = 2**30


class Recording(StandIns):
    """Carries out a forward in full, and finds out what later ones can do on patches; see `plan`.

    Args:
        chains: the convolutions of the network and what follows each.
        images: (M, C, H, W).
        box: height and width of what will change in an image.
        members: parameters and buffers of the network.
    """

    def __init__(
        self,
        chains: Sequence[Chain | None],
        images: Tensor,
        box: tuple[int, int],
        members: Sequence[Tensor],
    ) -> None:
        vertical, horizontal = map(Reach.of_images, images.shape[2:], box)
        self._plan = Plan(list(chains), [Map(images.shape[1], (vertical, horizontal))])
        super().__init__(chains, self._plan.maps, len(images))
        self._values, self._versions = [images], [images._version]
        # Other tensors may be made of the images.
        self._members = {id(member) for member in members}
        # Maps of which somebody has a view.
        self._shared: set[int] = set()

    def plan(self) -> Plan:
        """What was found out, once the forward is over.

        Raises:
            OtherPathError: for a network that writes into its maps by calls that are not known.
        """
        if any(v._version != n for v, n in zip(self._values, self._versions, strict=True)):
            raise OtherPathError("a call that is not known writes into a map")
        self._plan.note_reads()
        return self._plan

    def kept(self, plan: Plan) -> KeptMaps:
        """The maps of this forward."""
        maps = KeptMaps(plan, self._count)
        for number, values in enumerate(self._values):
            maps.keep(number, values)
        return maps

    def _carried_out(self, step: Step) -> Step | None:
        chain = self._chain_of(step)
        operation = self._operation_of(step) if chain is None else of_chain(chain)
        reaches = self._reaches(step, operation) if operation is not None else None
        if operation is None or reaches is None:
            # Without its arguments, which may be as large as maps.
            self._plan.steps.append(replace(step, args=(), kwargs={}))
            return None
        if operation.in_place and step.inputs[0] in self._shared:
            self._leave("a map is written into of which there are views")
        outputs = operation.in_full([self._values[number] for number in step.inputs])
        known = replace(step, operation=operation, output=len(self._values), chain=chain)
        self._plan.steps.append(known)
        self._plan.maps.append(Map(outputs.shape[1], reaches))
        self._values.append(outputs)
        self._versions.append(outputs._version)
        return known

    def _operation_of(self, step: Step) -> Operation | None:
        if any(id(tensor) not in self._members for tensor in tensors_in(step.args, step.kwargs)):
            return None
        return operation_of(step.func, step.args, step.kwargs)

    def _chain_of(self, step: Step) -> Chain | None:
        if step.func is not torch.conv2d or self._next >= len(self._chains):
            return None
        wholes = {number: self._values[number] for number in step.inputs}
        given = convolution_of(filled(step.args, wholes), filled(step.kwargs, wholes))
        chain = self._chains[self._next]
        if chain is None or given is None or not chain.convolution.is_same(given):
            return None
        return chain

    def _reaches(self, step: Step, operation: Operation) -> tuple[Reach, Reach] | None:
        """Where the output changes; None where that is too much of it, or memory is full."""
        inputs = [self._plan.maps[number] for number in step.inputs]
        if any(one.sides != inputs[0].sides for one in inputs):
            return None
        vertical, horizontal = operation.reaches([one.reaches for one in inputs])
        share = vertical.size * horizontal.size / (vertical.length * horizontal.length)
        has_room = sum(values.nbytes for values in self._values) <= MOST_BYTES
        # With a whole map, a call in place would write into what is kept.
        if operation.in_place or (has_room and share <= MOST_OF_MAP):
            return vertical, horizontal
        return None

    def _whole(self, number: int) -> Tensor:
        return self._values[number]

    def _called_in_full(self, func: Any, args: Any, kwargs: Any) -> Any:
        outputs = super()._called_in_full(func, args, kwargs)
        memory = {tensor.untyped_storage().data_ptr() for tensor in tensors_in([outputs], {})}
        self._shared |= {
            number
            for number, values in enumerate(self._values)
            if values.untyped_storage().data_ptr() in memory
        }
        return outputs


class _Planned(StandIns):
    """A forward that goes by a plan.

    Args:
        plan: the plan.
        maps: where maps are kept.
    """

    def __init__(self, plan: Plan, maps: KeptMaps) -> None:
        super().__init__(plan.chains, plan.maps, maps.count)
        self._plan, self._kept, self._done = plan, maps, 0
        # Of each map what is at hand of it.
        self._at_hand: list[Tensor | None] = [None] * len(plan.maps)

    def check(self) -> None:
        """Raise unless the forward has done all that was planned, and nothing else."""
        super().check()
        if self._done != len(self._plan.steps):
            raise OtherPathError("a forward is over before all was done that was planned")
        if not self._kept.are_ours():
            raise OtherPathError("a call that is not known writes into a map")

    def _carried_out(self, step: Step) -> Step | None:
        planned = self._plan.steps[self._done] if self._done < len(self._plan.steps) else None
        if planned is None or not _is_same(planned, step):
            self._leave("a forward does something else than when it was planned")
        self._done += 1
        if planned.operation is None:
            return None
        self._at_hand[planned.output] = self._computed(planned, planned.operation)
        return planned

    @abstractmethod
    def _computed(self, step: Step, operation: Operation) -> Tensor:
        """What is then at hand of the output."""


class InFull(_Planned):
    """A forward of all images in full, whose maps are kept.

    Args:
        plan: the plan.
        maps: where maps are kept.
        images: (M, C, H, W).
    """

    def __init__(self, plan: Plan, maps: KeptMaps, images: Tensor) -> None:
        super().__init__(plan, maps)
        maps.keep(0, images)
        self._at_hand[0] = maps.whole(0)

    def _computed(self, step: Step, operation: Operation) -> Tensor:
        outputs = operation.in_full([self._whole(number) for number in step.inputs])
        self._kept.keep(step.output, outputs)
        return outputs

    def _whole(self, number: int) -> Tensor:
        values = self._at_hand[number]
        return self._kept.whole(number) if values is None else values


class OnPatches(_Planned):
    """A forward of images that differ from the last ones in a box, at these places.

    Args:
        plan: the plan.
        maps: those of the last images.
        images: (M, C, H, W).
        places: (M,) along the height and the width.
    """

    def __init__(
        self, plan: Plan, maps: KeptMaps, images: Tensor, places: tuple[Numbers, Numbers]
    ) -> None:
        super().__init__(plan, maps.at(places))
        self._at_hand[0] = maps.changed_images(images)

    def _computed(self, step: Step, operation: Operation) -> Tensor:
        reaches = self._plan.maps[step.output].reaches
        patches = []
        for number, is_direct in zip(step.inputs, step.are_direct, strict=True):
            patch = self._at_hand[number]
            if patch is None or not is_direct:
                patch = self._kept.patch(number, reaches, operation.windows, operation.beyond)
            patches.append(patch)
        outputs = operation.on_patches(patches)
        self._kept.write(step.output, outputs)
        return outputs

    def _whole(self, number: int) -> Tensor:
        return self._kept.whole(number)


def _is_same(planned: Step, step: Step) -> bool:
    """Whether a call is the one that was planned; other tensors count only where it is known."""
    if planned.func is not step.func or planned.inputs != step.inputs:
        return False
    if planned.operation is None:
        return True
    return _are_alike(planned.args, step.args) and _are_alike(planned.kwargs, step.kwargs)


def _are_alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or isinstance(one, Tensor):
        return one is other
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _are_alike(one[name], other[name]) for name in one
        )
    if isinstance(one, (list, tuple)) and not isinstance(one, Slot):
        return len(one) == len(other) and all(map(_are_alike, one, other))
    return bool(one == other)
