"""Which tensor of a network's answer is explained: its (N, classes) outputs, or those of pixels.

What a network returns may be a tensor, an object, a tuple or a dict with several of them. The
choice is made by name first and then by shape; it is always the same for the same kind of answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor

from aopc_monitor.utilities.error_text import said_by, shortened

OutputFunction: TypeAlias = Callable[[Any], Any]
# (N, classes); what has so many dimensions, (N, classes, *space); or anything of N rows.
Wanted: TypeAlias = "Literal['classes', 'any'] | int"
# What class scores are usually called, the likeliest first.
OUTPUT_NAMES = ("logits", "out", "output", "preds", "prediction", "scores")


class OutputError(TypeError):
    """What a network returned holds no class scores."""


@dataclass(frozen=True)
class ChosenOutput:
    """The tensor that is explained, and what else might have been.

    Attributes:
        outputs: (N, classes), or what else was wanted.
        place: how people would write where it was, such as "['logits']"; "" for the whole answer.
        by_name: whether a usual name told which one is meant.
        others: the other tensors of N rows by their place, with their columns.
    """

    outputs: Tensor
    place: str
    by_name: bool
    others: Mapping[str, int]

    @property
    def num_classes(self) -> int:
        """K, the number of columns."""
        return self.outputs.shape[1]

    def told(self) -> str:
        """Which one it is, for people; "" where there is nothing to choose.

        Example:
            >>> import torch
            >>> chosen_output((torch.zeros(2, 64), torch.zeros(2, 10)), num_images=2).told()
            'answer[0] of 64 columns is explained, not answer[1] of 10'
        """
        if not self.place:
            return ""
        told = f"answer{self.place} of {self.num_classes} columns is explained"
        others = [f"answer{place} of {columns}" for place, columns in self.others.items()]
        return f"{told}, not {' or '.join(others)}" if others else told


def part_of(answer: Any, output_fn: OutputFunction) -> Any:
    """The part of a network's answer that the user's function chooses.

    Raises:
        OutputError: if the function raises.

    Example:
        >>> part_of({"classes": 1.0}, lambda answer: answer["classes"])
        1.0
    """
    try:
        return output_fn(answer)
    except Exception as error:  # whatever a user's function may raise
        keys = f" with the keys {list(answer)}" if isinstance(answer, Mapping) else ""
        raise OutputError(
            f"output_fn raised {type(error).__name__}: {shortened(said_by(error))} on what the "
            f"model returned, a {type(answer).__name__}{keys}"
        ) from error


def class_outputs(outputs: Any, num_images: int) -> Tensor:
    """The (N, classes) tensor of a network's answer: see `chosen_output`.

    Example:
        >>> import torch
        >>> class_outputs({"loss": torch.zeros(()), "logits": torch.zeros(2, 10)}, 2).shape
        torch.Size([2, 10])
    """
    is_usual = isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == num_images
    if is_usual and outputs.is_floating_point():  # nothing to choose, at each forward
        return outputs
    return chosen_output(outputs, num_images).outputs


def chosen_output(outputs: Any, num_images: int, wanted: Wanted = "classes") -> ChosenOutput:
    """Choose what is explained.

    That is the answer itself; in an object or a dict what has a usual name; else what has one in a
    dict inside the answer; else the first tensor of shape (N, classes) among several, as networks
    with auxiliary outputs return them; else the first of shape (N,), which is taken for (N, 1).

    Args:
        outputs: what the network returned.
        num_images: N, the number of images it was given.
        wanted: "classes" for the shapes above; a number for tensors (N, classes, *space) of so many
            dimensions; "any" for these shapes or else any other of N rows.

    Raises:
        OutputError: if there is no such tensor.
    """
    found = dict(_tensors_of(outputs))
    rows = {p: t for p, t in found.items() if t.ndim > 0 and t.shape[0] == num_images}
    dimensions = (wanted,) if isinstance(wanted, int) else (1, 2)
    fitting = {place: tensor for place, tensor in rows.items() if tensor.ndim in dimensions}
    if wanted == "any" and not fitting:
        fitting = rows
    named = _named(fitting)
    by_shape = sorted(fitting, key=lambda place: fitting[place].ndim == 1)  # a stable sort
    if not by_shape:
        raise OutputError(_not_found(outputs, list(found.values()), num_images, wanted))
    place = (named or by_shape)[0]
    chosen = fitting[place]
    others = {p: t for p, t in fitting.items() if t.ndim == max(chosen.ndim, 2) and p != place}
    columns = {p: t.shape[1] for p, t in others.items()}
    if not chosen.is_floating_point():
        raise OutputError(f"the model returned {chosen.dtype} numbers; class scores are floats")
    if chosen.ndim == 1:
        chosen = chosen[:, None]
    return ChosenOutput(chosen, place, _do_names_tell(named, fitting), columns)


def _tensors_of(outputs: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a network's answer by their places."""
    entries: Any
    if isinstance(outputs, Tensor):
        entries = [("", outputs)]
    elif isinstance(outputs, Mapping):
        entries = [(f"[{key!r}]", value) for key, value in outputs.items()]
    elif isinstance(outputs, (tuple, list)):
        names = getattr(outputs, "_fields", range(len(outputs)))
        entries = zip(map(_place_in_tuple, names), outputs, strict=True)
    else:
        entries = [(f".{name}", getattr(outputs, name, None)) for name in OUTPUT_NAMES]
    for place, value in entries:
        if isinstance(value, Tensor):
            yield place, value
        elif isinstance(value, Mapping):  # a pair of the answer and something else, say
            inner = ((f"{place}[{key!r}]", entry) for key, entry in value.items())
            yield from (pair for pair in inner if isinstance(pair[1], Tensor))


def _place_in_tuple(name: Any) -> str:
    return f".{name}" if isinstance(name, str) else f"[{name}]"


def _named(fitting: Mapping[str, Tensor]) -> list[str]:
    """The places with a usual name, the likeliest first, those inside a dict of the answer last."""
    usual = [(f".{name}", f"[{name!r}]") for name in OUTPUT_NAMES]
    outer = [place for forms in usual for place in forms if place in fitting]
    inner = [place for _, form in usual for place in fitting if place.endswith(form)]
    return list(dict.fromkeys([*outer, *inner]))


def _do_names_tell(named: list[str], fitting: Mapping[str, Tensor]) -> bool:
    """Whether names alone tell what is meant: "output" and "scores" of other columns do not."""
    kinds = {tuple(fitting[place].shape[1:]) for place in named}
    return len(kinds) == 1 or any(OUTPUT_NAMES[0] in place for place in named[:1])


def _not_found(outputs: Any, found: list[Tensor], num_images: int, wanted: Wanted) -> str:
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in found)
    what = "tensors of shape" if len(found) > 1 else "a tensor of shape"
    came_in = f"{what} {shapes}" if found else f"a {type(outputs).__name__}"
    told = f"the model returned {came_in} for {num_images} images; wanted is"
    if isinstance(wanted, int):
        space = {3: "length", 4: "height, width", 5: "depth, height, width"}.get(wanted, "*space")
        return (
            f'{told}, for score="segmentation", a tensor of shape ({num_images}, classes, {space}):'
            ' give another score= for a network of (N, classes), such as score="probability", or '
            "output_fn=, a function from what the model returns to such a tensor"
        )
    hint = ""
    if any(tensor.ndim > 2 and len(tensor) == num_images for tensor in found):
        hint = ' For classes of each pixel give score="segmentation".'
    return (
        f"{told} a tensor of shape "
        f"({num_images}, classes), or an object with one as `.logits`.{hint} Give output_fn=, a "
        "function "
        "from what the model returns to that; AOPCMonitor also takes another network by model_fn="
    )
