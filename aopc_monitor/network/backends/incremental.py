"""Forwards of images that differ a little from the last ones: only what changes is computed.

Between one step of a perturbation and the next, a region of an image changes. In a convolutional
network, what this changes in a map lies in a box that grows from layer to layer. The first layers,
which take most of the time, are computed there alone, and the last ones in full, so that nothing is
approximated. The idea is that of incremental inference in S. Nakandala, A. Kumar and
Y. Papakonstantinou, "Incremental and approximate inference for faster occlusion-based deep CNN
explanations", SIGMOD 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.asked import has_inputs, network_in
from aopc_monitor.network.backends.base import Answers, asked
from aopc_monitor.network.backends.chains import OtherPathError
from aopc_monitor.network.backends.fused import Fused, Watched, carried, kept_or_made
from aopc_monitor.network.backends.fusible_calls import tensors_in
from aopc_monitor.network.backends.patches.changed_box import ChangedBox
from aopc_monitor.network.backends.patches.forwards import InFull, OnPatches, Recording
from aopc_monitor.network.backends.patches.kept_maps import KeptMaps, Plan
from aopc_monitor.network.backends.state import is_same
from aopc_monitor.network.weight_changes import weight_changes

# A box that fills more of an image is not worth a plan.
MOST_OF_IMAGE = 0.15
# With fewer of them on patches, there is nothing to gain: transformers have one.
LEAST_CONVOLUTIONS = 2
# The way in which most steps are answered.
ON_PATCHES = "on patches"


class Incremental(Fused):
    """Maps of the last images are kept, and patches of them are computed.

    The network is called as it is; its calls of torch are seen on the way, and what is not known
    is carried out as ever, with whole maps.
    """

    name: ClassVar[str] = "incremental"

    def _reason_against(self, model: nn.Module, inputs: Tensor) -> str | None:
        reason = super()._reason_against(model, inputs)
        if reason is None and has_inputs(model):
            return "the network is given more than images"
        return reason

    def _answers(self, model: nn.Module, inputs: Tensor) -> Answers:
        network = network_in(model)

        def made() -> _Known:
            return _Known(Watched.of(model, inputs, every=True))

        following = _Following(network, kept_or_made(_KNOWN, network, inputs, made))
        call = partial(asked, model, call=following)
        way = partial(getattr, following, "way")
        return Answers(call, 0, torch.channels_last, in_sequence=True, way=way)


@dataclass(eq=False)
class _Known:
    """What was found out about a network.

    Attributes:
        watched: its convolutions, and by what it is known to be still the same.
        plan: how its maps are computed on patches, once that is known.
        tensors: what other calls are given in the plan, and copies.
    """

    watched: Watched
    plan: Plan | None = None
    tensors: tuple[tuple[Tensor, Tensor], ...] = ()

    def fits(self, network: nn.Module, inputs: Tensor) -> bool:
        """Whether images are of the same shape, and the network has not changed since."""
        if not self.watched.fits(network, inputs):
            return False
        return all(is_same([before], [now.detach()]) for now, before in self.tensors)

    def writes(self) -> int:
        """How often what maps are computed with was written to."""
        return weight_changes(tensor for tensor, _ in (*self.watched.tensors, *self.tensors))

    def keep(self, plan: Plan) -> None:
        """Go by a plan from here on.

        Raises:
            RuntimeError: for a plan by which next to nothing is done on patches.
        """
        steps = [step for step in plan.steps if step.operation is not None]
        if sum(step.chain is not None for step in steps) < LEAST_CONVOLUTIONS:
            names = (getattr(s.func, "__name__", "") for s in plan.steps if s.operation is None)
            raise RuntimeError(
                "hardly anything of the network can be carried out for a part of its maps alone: "
                f"{next(names, 'what follows')} needs whole ones"
            )
        given = [t for step in steps for t in tensors_in(step.args, step.kwargs)]
        self.tensors = tuple((tensor, tensor.detach().clone()) for tensor in given)
        self.plan = plan


class _Following:
    """A network that is called with images that differ little from the last ones.

    Args:
        network: the network.
        known: what was found out about it.

    Attributes:
        way: by which the last images were answered.
    """

    way = ""

    def __init__(self, network: nn.Module, known: _Known) -> None:
        self._network, self._known = network, known
        self._last: Tensor | None = None
        self._maps: KeptMaps | None = None

    def __call__(self, images: Tensor) -> Any:
        """Its answer.

        Raises:
            OtherPathError: for a network that cannot be followed, or does something else than when
                it was watched.
            RuntimeError: for one of which next to nothing is done on patches.
        """
        known, last = self._known, self._last
        box = None
        if last is not None and last.shape == images.shape:
            box = ChangedBox.between(last, images)
            if _is_small(box, images) and not _is_held(box, known.plan):
                return self._recorded(images, box)
        if known.plan is None:
            self.way = "as usual"
            self._last = images.clone()
            return carried(self._network, known.watched.chains, images.clone())
        writes = known.writes()
        answer = self._planned(known.plan, images, box)
        if known.writes() != writes:  # the rest of the maps would have to be computed anew
            raise OtherPathError("a forward writes into weights or buffers of its own")
        return answer

    def _planned(self, plan: Plan, images: Tensor, box: ChangedBox | None) -> Any:
        maps = self._maps
        if box is not None and maps is not None and maps.plan is plan and _is_held(box, plan):
            self.way = ON_PATCHES
            places = box.places(_size(plan), _sides(images))
            return OnPatches(plan, maps, images, places).answer(self._network)
        self.way = "in full"
        self._last = self._maps = None  # until there are others
        if maps is None or maps.plan is not plan or maps.count != len(images):
            maps = None  # before there is room for both
            maps = KeptMaps(plan, len(images))
        answer = InFull(plan, maps, images).answer(self._network)
        self._maps, self._last = maps, maps.whole(0)
        return answer

    def _recorded(self, images: Tensor, box: ChangedBox) -> Any:
        """An answer in full, and a plan for boxes of this size and of those before."""
        self.way = "for a plan"
        size, plan = box.size, self._known.plan
        if plan is not None:
            size = max(size[0], _size(plan)[0]), max(size[1], _size(plan)[1])
        self._last = self._maps = self._known.plan = None
        watched = self._known.watched
        recording = Recording(watched.chains, images.clone(), size, watched.members)
        answer = recording.answer(self._network)
        plan = recording.plan()
        self._known.keep(plan)
        self._maps = recording.kept(plan)
        self._last = self._maps.whole(0)
        return answer


def _size(plan: Plan) -> tuple[int, int]:
    vertical, horizontal = plan.maps[0].reaches
    return vertical.size, horizontal.size


def _sides(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]


def _is_held(box: ChangedBox, plan: Plan | None) -> bool:
    """Whether there is a plan for boxes of this size."""
    return plan is not None and all(map(int.__le__, box.size, _size(plan)))


def _is_small(box: ChangedBox, images: Tensor) -> bool:
    """Whether most of the images is what it was."""
    height, width = box.size
    return height * width <= MOST_OF_IMAGE * images.shape[2] * images.shape[3]


# What was found out about networks, as long as they exist.
_KNOWN = WeakIdKeyDictionary()
