"""What a few images tell of a network: what it returns, and whether images see each other.

Asked once for each state of its weights, before anything is measured; nothing of the network or of
the random generators changes by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.isolation import untouched
from aopc_monitor.network.lockstep import same_for_all, together
from aopc_monitor.network.outputs import ChosenOutput, Wanted, chosen_output
from aopc_monitor.network.scores import PROBABILITY_SLACK, are_probabilities
from aopc_monitor.network.weight_changes import weight_changes

ASKED_IMAGES = 4
# Of each of them that are looked at, where classes are those of pixels.
MOST_POSITIONS = 256
# What another number of images at once may change in float32, amply, of what images change.
COMPANY_TOLERANCE = 1e-3
# An embedding of unit length.
UNIT_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Traits:
    """What is known of a network.

    Attributes:
        output: its answer to a few images; of classes of pixels, a row for each of a few pixels.
        is_bounded: whether these are probabilities already, by a sigmoid or a softmax of its own.
        images_meet: whether the answer to an image depends on the others of its batch.
        space: the last dimensions of its answer, where that is more than a row of classes for each
            image.
    """

    output: ChosenOutput
    is_bounded: bool
    images_meet: bool
    space: tuple[int, ...] = ()

    def num_sides(self, score: object) -> int:
        """How many classes a label may name under a score: two sides of one number."""
        columns = self.output.num_classes
        return 2 if columns == 1 and score in ("sigmoid", "segmentation") else columns

    def told(self, score: object) -> str:
        """What is explained, and what it is taken for, for people."""
        columns = self.output.num_classes
        if score == "value":
            kind = "a number for each image" if columns == 1 else f"{columns} numbers"
            ending = "as they are: no class, no confidence, no accuracy"
        elif score == "segmentation":
            kind = f"{self.num_sides(score)} classes of each pixel"
            ending = "the mean logit of a class over the pixels that were predicted so"
        elif score == "sigmoid":
            kind = "one number with two sides" if columns == 1 else f"{columns} independent labels"
            ending = "probabilities already" if self.is_bounded else "sigmoid"
        elif score in ("probability", "log_probability"):
            kind = f"{columns} classes"
            already = are_probabilities(self.output.outputs)
            ending = "probabilities already" if already else "softmax"
        else:
            kind, ending = f"{columns} classes", "their numbers as they are"
        told = self.output.told()
        taken = f"taken as {kind}, {ending}"
        return f"{told}; {taken}" if told else taken

    def doubts(self, score: object) -> list[str]:
        """What the score takes for granted and the answers do not look like, for people."""
        return [
            *_doubts_about_choice(self.output),
            *_doubts_about_kind(self.output.outputs, self.is_bounded, score),
            *([_ABOUT_COMPANY] if self.images_meet else []),
        ]


_ABOUT_COMPANY = (
    "the model's answer to an image depends on the other images of the batch (normalisation "
    "without running statistics, attention over the batch, ...): an image is then scored and "
    "explained among the same others, whatever the chunk size, and the numbers belong to these "
    "batches of images"
)


def _doubts_about_choice(output: ChosenOutput) -> list[str]:
    found = []
    columns = {output.num_classes, *output.others.values()}
    if not output.by_name and len(columns) > 1:
        other = next(iter(output.others))
        found.append(
            f"the model returns several tensors: {output.told()}, and nothing tells which one is "
            f"meant: give output_fn=lambda answer: answer{other} for another one, or "
            f"lambda answer: answer{output.place} to be sure"
        )
    lengths = output.outputs.detach().double().norm(dim=1)
    have_length_1 = bool(((lengths - 1).abs() < UNIT_LENGTH_TOLERANCE).all())
    # A class that is certain is a row of length one, too.
    if output.num_classes > 1 and have_length_1 and not are_probabilities(output.outputs):
        found.append(
            f"the model's rows of {output.num_classes} outputs have length 1, as embeddings have, "
            "and not class scores: give output_fn="
        )
    return found


def _doubts_about_kind(outputs: Tensor, is_bounded: bool, score: object) -> list[str]:
    by_softmax = score in ("probability", "log_probability")
    if not by_softmax or not is_bounded or outputs.shape[1] == 1:
        return []
    if are_probabilities(outputs):
        return []
    return [
        f"the model returns numbers from 0 to 1 whose rows do not sum to 1, and score={score!r} "
        'is a softmax over them: for independent labels give score="sigmoid"'
    ]


def traits_of(
    network: nn.Module,
    images: Tensor,
    answer: Callable[[Tensor, Tensor], Any],
    wanted: Wanted = "classes",
    kind: object = None,
) -> Traits:
    """Ask a network, unless that was done under the same weights.

    Args:
        network: what its answers are kept for.
        images: (N, C, H, W) of the kind that it will be given; a few are made of a single one.
        answer: from images, and of which of these each one is, to what the network returns, by way
            of `output_fn` if there is one.
        wanted: which outputs are looked for in it; see `chosen_output`.
        kind: what else its answer depends on, such as that function.

    Raises:
        TypeError: if no outputs are found in the answer.
    """
    weights = weight_changes(network.parameters())
    key = (weights, kind, wanted, images.shape[1:], images.dtype, images.device)
    known = _TRAITS.get(network)
    if known is None or known[0] != key:
        found = together("what it returns", lambda: _asked(network, images, answer, wanted))
        bounded, meet = same_for_all([found.is_bounded, found.images_meet])
        known = (key, replace(found, is_bounded=bounded, images_meet=meet))
        _TRAITS[network] = known
    traits: Traits = known[1]
    return traits


# Traits are kept as long as their network exists; they are facts, not settings.
_TRAITS = WeakIdKeyDictionary()


def _asked(
    network: nn.Module,
    images: Tensor,
    answer: Callable[[Tensor, Tensor], Any],
    wanted: Wanted,
) -> Traits:
    few, rows = _few(images)
    watch = _BoundedWatch()
    spaces: list[tuple[int, ...]] = []

    def outputs(count: int) -> ChosenOutput:
        # Each time from the same random numbers, and with images that it may write into.
        asked = few[:count].clone()
        with torch.no_grad(), untouched(network), watch:
            chosen = chosen_output(answer(asked, rows[:count]), count, wanted)
            spaces.append(tuple(chosen.outputs.shape[2:]))
            return replace(chosen, outputs=_as_rows(chosen.outputs))

    together = outputs(ASKED_IMAGES)
    return Traits(
        # These are kept, and a graph would hold the activations of the forward.
        replace(together, outputs=together.outputs.detach()),
        _are_bounded(together.outputs, watch),
        _differs(outputs(2).outputs, together.outputs),
        spaces[0],
    )


def _as_rows(outputs: Tensor) -> Tensor:
    """(N * positions, classes) of some positions of (N, classes, *space), image by image.

    What is known of a network is kept, and outputs of pixels would be too large for that.
    """
    if outputs.ndim == 2:
        return outputs
    positions = outputs.flatten(2).transpose(1, 2)
    step = -(-positions.shape[1] // MOST_POSITIONS)
    return positions[:, ::step].flatten(0, 1)


def _few(images: Tensor) -> tuple[Tensor, Tensor]:
    """Four inputs that differ, images also by their means, and which ones they are made of."""
    few = images[:ASKED_IMAGES].detach()
    if few.is_floating_point():
        made = torch.cat([few, 0.5 * few.flip(-1), 0.75 * few.flip(-2), 0.25 * few])
    else:  # token ids, of which no other numbers may be made
        made = torch.cat([few, few.flip(-1), few.roll(1, -1), few.flip(-1).roll(1, -1)])
    return made[:ASKED_IMAGES], torch.arange(len(few)).repeat(4)[:ASKED_IMAGES]


def _differs(alone: Tensor, together: Tensor) -> bool:
    """Whether the answer to two images depends on two more, by more than rounding."""
    spread = (together.amax(dim=0) - together.amin(dim=0)).max()
    # Half precision has an epsilon of its own.
    tolerance = max(COMPANY_TOLERANCE, 8 * torch.finfo(together.dtype).eps)
    difference = (alone - together[: len(alone)]).abs().max()
    rounding = 64 * torch.finfo(together.dtype).eps * together.abs().max()
    return bool(difference > tolerance * spread + rounding)


def _are_bounded(outputs: Tensor, watch: _BoundedWatch) -> bool:
    if bool((outputs < -PROBABILITY_SLACK).any() | (outputs > 1 + PROBABILITY_SLACK).any()):
        return False
    # A scripted or exported network hides its operations; its values alone must tell.
    return outputs in watch.bounded if watch.has_seen_any else True


_BOUNDED = frozenset({"sigmoid", "sigmoid_", "expit", "hardsigmoid", "softmax"})
_REARRANGING = frozenset(
    {"__getitem__", "cat", "concat", "contiguous", "double", "flatten", "float", "mean", "reshape"}
    | {"select", "squeeze", "stack", "t", "to", "transpose", "unbind", "unsqueeze", "view"}
)


class _BoundedWatch(TorchFunctionMode):
    """Follows what comes out of sigmoids and softmaxes as long as it is only rearranged."""

    def __init__(self) -> None:
        super().__init__()
        self.has_seen_any = False
        self.bounded: Any = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(result, Tensor) and result.is_floating_point() and name not in _REARRANGING:
            self.has_seen_any = True
        if name in _BOUNDED or (name in _REARRANGING and self._holds_bounded(args)):
            made = result if isinstance(result, (tuple, list)) else [result]
            self.bounded.update({tensor: True for tensor in made if isinstance(tensor, Tensor)})
        return result

    def _holds_bounded(self, args: Any) -> bool:
        first = args[0] if args else None
        several = first if isinstance(first, (tuple, list)) else [first]
        return any(isinstance(tensor, Tensor) and tensor in self.bounded for tensor in several)
