"""A network as it is asked: from images alone to (N, classes) outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from aopc_monitor.network.chunks import proceed
from aopc_monitor.network.exchanges import OutOfStepError
from aopc_monitor.network.further_inputs import Inputs, accepted, called, selected
from aopc_monitor.network.lockstep import FailedElsewhereError
from aopc_monitor.network.memory import is_out_of_memory
from aopc_monitor.network.outputs import OutputError, OutputFunction
from aopc_monitor.network.reading import Reading, Summary, wanted_by
from aopc_monitor.network.scores import Score, score_function
from aopc_monitor.network.token_marks import answer_to_tokens, are_tokens, outputs_of_tokens
from aopc_monitor.network.traits import Traits, traits_of
from aopc_monitor.utilities.error_text import said_by, shortened


class AskedNetwork(nn.Module):
    """A network that is given images alone and returns (N, classes), whatever it is inside.

    Args:
        network: the network.
        reading: how its answers are read.
        inputs: what its forward takes after the images: tensors of one row for each image of a
            batch, in a tuple, or by name. What is no tensor goes with all images.
        kept: (N, ...) what the summary of the reading needs of the clean images.
    """

    def __init__(
        self,
        network: nn.Module,
        reading: Reading | None = None,
        inputs: Inputs = (),
        kept: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network, self.reading, self.inputs = network, reading or Reading(), inputs
        self.kept = kept
        self.training = network.training

    def forward(
        self,
        images: Tensor,
        rows: Tensor | None = None,
        call: Callable[..., Any] | None = None,
    ) -> Tensor:
        """(M, classes) outputs of images (M, C, H, W), or of token ids (M, T) with marks.

        Args:
            images: the images.
            rows: (M,) of which image of the batch each one is; of all in turn if not given, or of
                the only one.
            call: what is called in place of the network.
        """
        if not are_tokens(images):
            # Not `len`, which a tracer would take for a fixed number.
            count = images.shape[0]
            kept = self._kept(count, rows)
            return self.reading.outputs(self.answer(images, rows, call), count, kept)
        inputs, kept = selected(self.inputs, len(images), rows), self._kept(len(images), rows)

        def outputs(tokens: Tensor, inputs: Inputs, of: Tensor) -> Tensor:
            answer = answer_to_tokens(tokens, inputs, call or self.network)
            return self.reading.outputs(answer, len(tokens), None if kept is None else kept[of])

        return outputs_of_tokens(images, inputs, outputs)

    def answer(
        self,
        images: Tensor,
        rows: Tensor | None = None,
        call: Callable[..., Any] | None = None,
    ) -> Any:
        """What the network returns, for tokens of which none is left out."""
        inputs = selected(self.inputs, images.shape[0], rows)  # see `forward`
        if are_tokens(images):
            return answer_to_tokens(images, inputs, call or self.network)
        return called(call or self.network, images, inputs)

    def of(self, start: int, end: int) -> AskedNetwork:
        """The same for the images of the batch from a start to an end."""
        return self.at(torch.arange(start, end))

    def at(self, rows: Tensor) -> AskedNetwork:
        """The same for a batch of the images in these rows (M,)."""
        inputs = selected(self.inputs, len(rows), rows)
        return AskedNetwork(self.network, self.reading, inputs, self._kept(len(rows), rows))

    def keeping(self, kept: Tensor, summary: Summary) -> AskedNetwork:
        """The same network, whose outputs are summed up by what is kept of the clean images."""
        reading = replace(self.reading, summary=summary)
        return AskedNetwork(self.network, reading, self.inputs, kept)

    @property
    def needs_rows(self) -> bool:
        """Whether it depends on which image of the batch an image is made of."""
        return bool(self.inputs) or self.kept is not None

    def _kept(self, count: int, rows: Tensor | None) -> Tensor | None:
        if self.kept is None:
            return None
        (kept,) = cast("tuple[Tensor]", selected((self.kept,), count, rows))
        return kept

    def read_by(self, reading: Reading) -> AskedNetwork:
        """The same network, whose answers are read otherwise."""
        return AskedNetwork(self.network, reading, self.inputs, self.kept)


def network_in(model: nn.Module) -> nn.Module:
    """The network itself, which what is found out about it is kept for."""
    return model.network if isinstance(model, AskedNetwork) else model


class ForwardError(RuntimeError):
    """A network cannot be asked with what it was given."""


@dataclass(frozen=True)
class Asked:
    """How a network is asked for a score.

    Attributes:
        network: what is asked; the network itself where that returns (N, classes) for images alone.
        score: what the score is for it.
        images_meet: whether its answer to an image depends on the others of the batch.
        refused: what it raised when it was first asked, if it did.
    """

    network: nn.Module
    score: Score
    images_meet: bool = False
    refused: Exception | None = None

    @contextmanager
    def explaining_errors(self, images: Tensor) -> Iterator[None]:
        """Say what a network was given that raises whenever it is asked.

        Raises:
            ForwardError: in place of an error of the network's own forward.
        """
        try:
            yield
        except Exception as error:  # whatever a forward may raise
            is_known = isinstance(error, (OutputError, FailedElsewhereError, OutOfStepError))
            is_known = is_known or is_out_of_memory(error)
            if is_known or type(error) is not type(self.refused):
                raise
            what = "its further inputs" if has_inputs(self.network) else "the images alone"
            text = shortened(said_by(error))
            raise ForwardError(
                f"forward was given {what}, {tuple(images.shape)}, and raised "
                f"{type(error).__name__}: {text}. {_advice(images, said_by(error))}"
            ) from error


def _advice(images: Tensor, text: str) -> str:
    """What to do about a network that raises a text for what it was given."""
    if not images.is_floating_point():
        return (
            "Whole numbers are taken for the ids of tokens: give images, series or tables as "
            "floating-point numbers, after the same conversion as in training"
        )
    if "arguments for embedding" in text:
        return (
            "It seems to look up ids, which these floating-point numbers are not: give the ids of "
            "tokens as whole numbers, (N, T) of torch.long"
        )
    return (
        "If it takes a whole batch or more than images, give AOPCMonitor model_fn=, which wraps "
        "the network in one that takes images (elsewhere wrap it yourself), or give what it takes "
        "after them: inputs_fn=, and inputs= where a batch is given"
    )


def has_inputs(model: nn.Module) -> bool:
    """Whether a network is given more than images."""
    return isinstance(model, AskedNetwork) and bool(model.inputs)


def asked_for(
    network: nn.Module,
    images: Tensor,
    score: Score,
    output_fn: OutputFunction | None = None,
    inputs: Inputs = (),
    before_each: Callable[[], None] = proceed,
) -> Asked:
    """How a network is to be asked for a score; warns where it does not look like it, once.

    Args:
        network: the network, inside `untouched`.
        images: (N, C, H, W).
        score: what f is to be.
        output_fn: from what the network returns to (N, classes).
        inputs: what its forward takes after the images, one row for each image.
        before_each: called before each forward; what raises here to stop has to raise again.
    """
    reading = Reading(output_fn, wanted=wanted_by(score, images.ndim))
    inputs = accepted(inputs, network)
    is_plain = output_fn is None and not inputs and not are_tokens(images)

    def read_by(reading: Reading) -> nn.Module:
        is_usual = is_plain and reading == Reading()
        return network if is_usual else AskedNetwork(network, reading, inputs)

    try:
        traits = traits_of_asked(network, images, score, output_fn, inputs, before_each)
    except Exception as error:  # what is wrong with the network comes again where it counts
        return Asked(read_by(reading), score, refused=error)
    for doubt in new_doubts(network, traits.doubts(score)):
        warnings.warn(doubt, stacklevel=2)
    if not traits.space:  # a callable takes anything, and this is the usual
        reading = replace(reading, wanted="classes")
    has_sides = traits.output.num_classes == 1
    if score in ("sigmoid", "segmentation"):
        by_outputs: Score = score_function(score, traits.output.outputs, traits.is_bounded)
        if score == "sigmoid" and has_sides:
            reading = replace(reading, sides="probability" if traits.is_bounded else "logit")
            by_outputs = "probability"
        elif has_sides:
            reading = replace(reading, sides="opposite")
        score = by_outputs
    return Asked(read_by(reading), score, traits.images_meet)


def traits_of_asked(
    network: nn.Module,
    images: Tensor,
    score: Score,
    output_fn: OutputFunction | None = None,
    inputs: Inputs = (),
    before_each: Callable[[], None] = proceed,
) -> Traits:
    """The traits of a network that is read and given inputs so; see `asked_for`."""
    plain = AskedNetwork(network, Reading(output_fn), accepted(inputs, network))
    wanted = wanted_by(score, images.ndim)

    def answer(few: Tensor, rows: Tensor) -> Any:
        before_each()
        return plain.reading.chosen(plain.answer(few, rows))

    return traits_of(network, images, answer, wanted, kind=output_fn)


# What was told is remembered as long as the network exists.
_TOLD = WeakIdKeyDictionary()


def new_doubts(network: nn.Module, doubts: Sequence[str]) -> list[str]:
    """The doubts that were not told of this network before; they count as told now."""
    # By what wrappers around it share, which may be made anew each time. Not by a parameter, which
    # torch swaps (`torch.utils.swap_tensors`) only where nobody refers to it weakly.
    network = network_in(network)
    owners = (part for part in network.modules() if [*part.parameters(recurse=False)])
    told = _TOLD.setdefault(next(owners, network), set())
    new = [doubt for doubt in doubts if doubt not in told]
    told.update(new)
    return new
