"""What modules hold beside their parameters, and putting it back where it was."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Longer containers and larger tensors hold data, and are no state that a forward would write to.
MOST_MEMBERS = 1000
MOST_NUMBERS = 1_000_000
NESTED_CONTAINERS = 2
# Beneath these a module refers to its trainer, and so to everything.
BACK_REFERENCES = ("_trainer", "_fabric")
PLAIN = (int, float, complex, bool, str, bytes, type(None), type, torch.dtype, torch.device)


@dataclass
class Snapshot:
    """Contents of containers, values of tensors and states of generators.

    Attributes:
        attributes: those of modules, with the names and the values that they had.
        containers: dicts, lists and sets, and the members that they had.
        empty: dicts, lists and sets that had none, as most of a module's have.
        tensors: buffers and other tensors, and copies of them.
        generators: what sets a generator back.
        held: buffers and other tensors, see `held_tensors`.
        off_graph: those of them that had no gradient.
    """

    attributes: list[tuple[dict[str, Any], Any, Any]] = field(default_factory=list)
    containers: list[tuple[Any, Any]] = field(default_factory=list)
    empty: list[Any] = field(default_factory=list)
    tensors: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    generators: list[Callable[[], None]] = field(default_factory=list)
    held: list[Tensor] = field(default_factory=list)
    off_graph: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> Snapshot:
        """What is in modules: attributes, buffers, submodules, hooks, and containers of their own.

        Of their own attributes tensors of up to a million numbers, dicts, lists and sets of up to a
        thousand members, two of them inside each other, and random generators, also in objects.
        """
        snapshot = cls()
        plain, containers, empty = _PLAIN_TYPES, _CONTAINER_TYPES, snapshot.empty
        for module in modules:
            attributes = vars(module)
            snapshot.attributes.append((attributes, tuple(attributes), (*attributes.values(),)))
            for name, value in attributes.items():
                kind = type(value)
                if kind in containers and not value:  # as nearly all that a module has
                    empty.append(value)
                elif kind in plain:
                    continue
                elif name in _OF_ANY_MODULE:  # hooks, submodules, parameters
                    snapshot._add_members(value)
                elif kind is tuple and plain.issuperset(map(type, value)):  # six in a convolution
                    continue
                elif name not in BACK_REFERENCES:
                    snapshot._add(value, NESTED_CONTAINERS)
            if module._buffers:
                buffers = [buffer for buffer in module._buffers.values() if buffer is not None]
                snapshot.tensors += [(buffer, buffer.detach().clone()) for buffer in buffers]
                snapshot.held += buffers
        snapshot.off_graph = [tensor for tensor in snapshot.held if not tensor.requires_grad]
        return snapshot

    @classmethod
    def of_generators(cls, *roots: object) -> Snapshot:
        """The random generators that objects hold, data sets for instance."""
        found = (_generators(root, depth=12, most=100_000, modules=True) for root in roots)
        return cls(generators=[restorer for of_root in found for restorer in of_root])

    def restore(self) -> list[str]:
        """Put everything back, as far as it goes.

        Returns:
            What could not be put back, and why.
        """
        problems: list[str] = []
        for attributes, names, values in self.attributes:
            if tuple(attributes) != names or not all(map(is_, attributes.values(), values)):
                earlier = dict(zip(names, values, strict=True))
                _attempt(problems, _restore_members, attributes, earlier)
        for container, before in self.containers:  # those of Python and torch do not fail
            if type(container) not in _CONTAINER_TYPES or not _has_members(container, before):
                _attempt(problems, _restore_members, container, before)
        for container in filter(None, self.empty):
            _attempt(problems, container.clear)
        for restorer in self.generators:
            _attempt(problems, restorer)
        for tensor in self.off_graph:
            if tensor.requires_grad:  # a forward wrote what depends on images that have a gradient
                _attempt(problems, torch.Tensor.detach_, tensor)
        for tensor, before in _changed(self.tensors):
            _attempt(problems, _write, tensor, before)
        return problems

    def _add(self, value: Any, depth: int) -> None:
        if type(value) in _PLAIN_TYPES or isinstance(value, PLAIN):
            return
        if isinstance(value, Tensor):
            self.held.append(value)
            if type(value) is Tensor and value.numel() <= MOST_NUMBERS:
                self.tensors.append((value, value.detach().clone()))
        elif isinstance(value, (dict, list, set, tuple)):
            self._add_members(value)
            members = value.values() if isinstance(value, dict) else value
            if len(value) > MOST_MEMBERS or _is_plain(members):
                return
            if depth > 0:
                for member in members:
                    self._add(member, depth - 1)
            else:
                self.held += [member for member in members if isinstance(member, Tensor)]
        else:
            self.generators.extend(_generators(value))

    def _add_members(self, value: Any) -> None:
        if isinstance(value, dict) and len(value) <= MOST_MEMBERS:
            self.containers.append((value, dict(value)))
        elif isinstance(value, (list, set)) and len(value) <= MOST_MEMBERS:
            self.containers.append((value, value.copy()))


def held_tensors(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    """The buffers of modules, and the tensors in attributes and containers of their own."""
    for module in modules:
        yield from (buffer for buffer in module._buffers.values() if buffer is not None)
        for name, value in vars(module).items():
            if type(value) in _PLAIN_TYPES or name in _OF_ANY_MODULE or name in BACK_REFERENCES:
                continue
            yield from _tensors_in(value, NESTED_CONTAINERS)


# What every module has for itself.
_OF_ANY_MODULE = frozenset(vars(nn.Module()))
_PLAIN_TYPES = frozenset(PLAIN)
_CONTAINER_TYPES = frozenset({dict, OrderedDict, list, set})


def _is_plain(members: Any) -> bool:
    return len(members) <= MOST_MEMBERS and _PLAIN_TYPES.issuperset(map(type, members))


def _tensors_in(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, set, tuple)) and depth >= 0 and len(value) <= MOST_MEMBERS:
        for member in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(member, depth - 1)


def _attempt(problems: list[str], restore: Callable[..., object], *values: Any) -> None:
    # One thing that cannot be put back must not keep the others from it.
    try:
        restore(*values)
    except Exception as error:  # whatever a user's container or tensor may raise
        problems.append(f"{type(error).__name__}: {error}")


def _restore_members(container: Any, before: Any) -> None:
    """Give a container the members it had."""
    if _has_members(container, before):
        return
    container.clear()
    if isinstance(container, list):
        container.extend(before)
    else:
        container.update(before)


def _has_members(container: Any, members: Any) -> bool:
    """Whether a container has these very members, in their order if it has one.

    By identity, since members may not compare.
    """
    if len(container) != len(members):
        return False
    if isinstance(container, set):
        return set(map(id, container)) == set(map(id, members))
    if not all(map(is_, container, members)):
        return False
    return not isinstance(container, dict) or all(map(is_, container.values(), members.values()))


def _changed(pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The tensors that differ from their copies, by value, with one wait for each device."""
    # By value: BatchNorm writes its statistics without counting up the tensor's version. And only
    # what has changed is written: a write would invalidate graphs that somebody keeps.
    changed: list[tuple[Tensor, Tensor]] = []
    flags: dict[torch.device, list[tuple[tuple[Tensor, Tensor], Tensor]]] = {}
    for tensor, before in pairs:
        try:
            if _is_equal_at_once(tensor, before):
                continue
            same = _same(tensor, before)
        except (RuntimeError, TypeError, NotImplementedError):  # a type that does not compare
            same = None
        if same is None:
            changed.append((tensor, before))
        else:
            flags.setdefault(same.device, []).append(((tensor, before), same))
    for of_device in flags.values():
        sames = torch.stack([same for _, same in of_device]).tolist()
        changed += [pair for (pair, _), same in zip(of_device, sames, strict=True) if not same]
    return changed


def _is_equal_at_once(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors without NaN are equal, if that is known without a wait for a device."""
    return one.device.type == "cpu" and one.layout is torch.strided and torch.equal(one, other)


def _same(one: Tensor, other: Tensor) -> Tensor | None:
    """Whether two tensors are equal everywhere, NaN to NaN; None if they have not the same form."""
    if one.shape != other.shape or one.layout != other.layout or one.dtype != other.dtype:
        return None
    if one.layout is not torch.strided:
        one, other = one.to_dense(), other.to_dense()
    return ((one == other) | ((one != one) & (other != other))).all()


def _write(tensor: Tensor, before: Tensor) -> None:
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        if tensor.shape == before.shape:
            tensor.copy_(before)
        else:
            tensor.set_(before)  # type: ignore[call-overload]


def _generators(
    root: object, depth: int = 4, most: int = MOST_MEMBERS, modules: bool = False
) -> Iterator[Callable[[], None]]:
    """What sets back each random generator that an object holds, or that what it holds holds.

    Args:
        root: the object.
        depth: how far down.
        most: how many objects to ask.
        modules: whether to go into modules.
    """
    seen: set[int] = set()
    level: list[Any] = [root]
    for _ in range(depth + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, PLAIN) or id(value) in seen or len(seen) > most:
                continue
            seen.add(id(value))
            restorer = _restorer(value)
            if restorer is not None:
                yield restorer
            else:
                below += _held_by(value, modules)
        level = below


def _held_by(value: Any, modules: bool) -> Iterable[Any]:
    if isinstance(value, (Tensor, np.ndarray)) or (isinstance(value, nn.Module) and not modules):
        return ()
    if isinstance(value, dict):
        return value.values() if len(value) <= MOST_MEMBERS else ()
    if isinstance(value, (list, tuple, set)):
        return value if len(value) <= MOST_MEMBERS else ()
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return ()
    return [held for name, held in attributes.items() if name not in BACK_REFERENCES]


def _restorer(value: Any) -> Callable[[], None] | None:
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: _none(value.set_state(state))
    if isinstance(value, random.Random):
        python_state = value.getstate()
        return lambda: value.setstate(python_state)
    if isinstance(value, np.random.RandomState):
        old_state = value.get_state()
        return lambda: value.set_state(old_state)
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        numpy_state = bits.state
        return lambda: setattr(bits, "state", numpy_state)
    return None


def _none(_: object) -> None:
    pass
