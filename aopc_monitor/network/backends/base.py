"""What a back end is: something that answers in place of a network, with the same values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from aopc_monitor.network.asked import AskedNetwork, network_in
from aopc_monitor.network.outputs import class_outputs

# From inputs (M, ...), and of which input of the batch each one is made, to outputs (M, classes).
Call: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]


@dataclass(frozen=True, eq=False)
class Answers:
    """What answers in place of a network.

    Attributes:
        call: the call.
        number: for answers of the network as it was when they were made; another one where they
            were made anew. None for those of the network as it is.
        layout: how inputs have to lie in memory; None where the network decides.
        has_threads: whether it computes on threads of its own, which torch's get in the way of.
        in_sequence: whether an answer costs less where inputs differ little from the last ones.
        way: by which of several ways the last call was answered, each of which may be wrong.
    """

    call: Call
    number: int | None = None
    layout: torch.memory_format | None = None
    has_threads: bool = False
    in_sequence: bool = False
    way: Callable[[], str] = lambda: ""


class Backend(Protocol):
    """A way to carry out forwards that only give scores.

    Only the network is handed over: what is perturbed and what a score is stay with torch.

    Attributes:
        needs: the package without which there is no such back end, and the extra that brings it;
            None where torch suffices.
    """

    needs: ClassVar[tuple[str, str] | None]

    def check(self, inputs: Tensor, autocast: torch.dtype | None) -> None:
        """Raise ValueError for a device or a precision that the back end does not have.

        Args:
            inputs: of the kind that it will be given.
            autocast: the precision that is asked for, if one is.
        """

    def answers_of(self, model: nn.Module, inputs: Tensor) -> Answers:
        """What answers in place of a network, inside `untouched(model)`.

        It is asked for again at each batch, so that what it costs to make is kept, weakly by the
        network. Whatever it raises is told in a warning, and the network is called as it is.

        Args:
            model: the network as it is asked, an `AskedNetwork` where more is to be done than to
                call it.
            inputs: (N, ...) the batch.
        """


def asked(
    model: nn.Module,
    inputs: Tensor,
    rows: Tensor | None = None,
    call: Callable[..., Any] | None = None,
) -> Tensor:
    """Outputs (M, classes) of a network for inputs (M, ...).

    Args:
        model: the network as it is asked.
        inputs: what it is given.
        rows: (M,) which input of the batch each one is made of.
        call: what is called in place of the network itself.
    """
    if isinstance(model, AskedNetwork):
        return model(inputs, rows, call)
    return class_outputs((call or network_in(model))(inputs), len(inputs))
