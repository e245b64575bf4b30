"""What a network's forward takes after the images, and the rows of it that go with which image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

import torch
from torch import Tensor

from aopc_monitor.utilities.batches import BatchFormError, told_of

# One row for each image, by position or by name.
Inputs: TypeAlias = "tuple[Any, ...] | Mapping[str, Any]"


class Place(Enum):
    """Among further inputs by name, the place of what goes first elsewhere: token ids, mostly."""

    FIRST = "first"


def called(call: Callable[..., Any], first: Tensor, inputs: Inputs) -> Any:
    """What a network returns for images, or what is in their place, and further inputs.

    Example:
        >>> called(lambda *, ids, mask: ids * mask, 3, {"ids": Place.FIRST, "mask": 2})
        6
    """
    if not isinstance(inputs, Mapping):
        return call(first, *inputs)
    if _has_place(inputs):
        named = {name: first if entry is Place.FIRST else entry for name, entry in inputs.items()}
        return call(**named)
    return call(first, **inputs)


def accepted(inputs: Inputs, network: Any) -> Inputs:
    """Further inputs that came with token ids, without those that a forward does not take.

    Tokenizers give more than many networks take. A forward that takes no argument of the name of
    the ids is given them by position.

    Args:
        inputs: what came in; returned as it is if the ids have no name.
        network: the network, or what is called in its place.

    Example:
        >>> class Network(torch.nn.Module):
        ...     def forward(self, ids, attention_mask): ...
        >>> came_in = {"input_ids": Place.FIRST, "attention_mask": 1, "token_type_ids": 0}
        >>> accepted(came_in, Network())
        {'attention_mask': 1}
    """
    if not isinstance(inputs, Mapping) or not _has_place(inputs):
        return inputs
    try:
        parameters = inspect.signature(getattr(network, "forward", network)).parameters.values()
    except (TypeError, ValueError):  # of something that is not written in Python
        return inputs
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return inputs
    names = {parameter.name for parameter in parameters}
    return {name: entry for name, entry in inputs.items() if name in names}


def _has_place(inputs: Mapping[str, Any]) -> bool:
    return any(entry is Place.FIRST for entry in inputs.values())


def given_inputs(given: Any, num_images: int, source: str = "inputs=") -> Inputs:
    """Further inputs as somebody gave them: one, several in a tuple, or by name.

    Args:
        given: a tensor of one row for each image, or several; what is no tensor goes with all.
        num_images: N.
        source: where they are from, for the message.

    Raises:
        BatchFormError: for a tensor of another number of rows.

    Example:
        >>> given_inputs(torch.zeros(2, 1), num_images=2)
        (tensor([[0.],
                [0.]]),)
    """
    inputs = given if isinstance(given, (tuple, Mapping)) else (given,)
    for entry in inputs.values() if isinstance(inputs, Mapping) else inputs:
        if isinstance(entry, Tensor) and entry.ndim and len(entry) != num_images:
            raise BatchFormError(
                f"{source} gave {told_of(entry)}; wanted is one row for each of the {num_images} "
                "images"
            )
    return inputs


def selected(inputs: Inputs, count: int, rows: Tensor | None) -> Inputs:
    """The rows of further inputs that go with so many images.

    Raises:
        ValueError: for inputs of another number of images, where nothing tells which goes where.

    Example:
        >>> ages = torch.tensor([[40.0], [7.0]])
        >>> selected((ages, "both"), 3, rows=torch.tensor([1, 1, 0]))[0].flatten().tolist()
        [7.0, 7.0, 40.0]
    """
    if isinstance(inputs, Mapping):
        return {name: _selected(entry, count, rows) for name, entry in inputs.items()}
    return tuple(_selected(entry, count, rows) for entry in inputs)


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """Further inputs on a device."""
    return each(inputs, lambda entry: entry.to(device, copy=True))


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Further inputs of several batches, one after the other.

    Example:
        >>> joined([(torch.zeros(2, 1),), (torch.ones(1, 1),)])[0].flatten().tolist()
        [0.0, 0.0, 1.0]
    """
    first = parts[0] if parts else ()
    if isinstance(first, Mapping):
        return {name: _joined([part[name] for part in parts]) for name in first}  # type: ignore[call-overload]
    return tuple(_joined(list(entries)) for entries in zip(*parts, strict=True))


def _joined(entries: list[Any]) -> Any:
    is_row = isinstance(entries[0], Tensor) and entries[0].ndim > 0
    return torch.cat(entries) if is_row else entries[0]


def each(inputs: Inputs, change: Callable[[Tensor], Any]) -> Inputs:
    """Further inputs with a function applied to each tensor among them."""

    def changed(entry: Any) -> Any:
        return change(entry) if isinstance(entry, Tensor) else entry

    if isinstance(inputs, Mapping):
        return {name: changed(entry) for name, entry in inputs.items()}
    return tuple(changed(entry) for entry in inputs)


def _selected(entry: Any, count: int, rows: Tensor | None) -> Any:
    if not isinstance(entry, Tensor) or entry.ndim == 0:
        return entry
    if rows is not None:
        return entry.index_select(0, rows.to(entry.device))
    if len(entry) == count:
        return entry
    if len(entry) == 1:
        return entry.expand(count, *entry.shape[1:])
    raise ValueError(
        f"inputs_fn gave {len(entry)} rows, and the network is asked for {count} images: a heatmap "
        "that asks for others than its images is given them one by one"
    )
