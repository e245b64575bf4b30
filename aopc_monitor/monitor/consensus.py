"""All processes of a trainer take one decision, whichever of them fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed

from aopc_monitor.monitor.errors import ConfigurationError, EvaluationError, Outcome, text_of
from aopc_monitor.network.isolation import ModelModifiedError
from aopc_monitor.network.lockstep import FailedElsewhereError
from aopc_monitor.network.memory import is_out_of_memory
from aopc_monitor.utilities.checks import NotFiniteError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

Result = TypeVar("Result")


def together(trainer: Trainer, work: Callable[[], Result]) -> Result:
    """What `work` returns on this process, if it returns on every process.

    Args:
        trainer: the Lightning trainer.
        work: what to do; no collective operation.

    Raises:
        EvaluationError: on every process, if `work` raised on any; the message tells what, where.
        ConfigurationError: instead, if it raised that on any.
    """
    result, error = None, None
    try:
        result = work()
    except Exception as caught:  # whatever a user's model, heatmap or loader may raise
        error = caught
    # Before any other collective operation, so that no process waits for one that failed.
    outcome = _worst(trainer, _outcome(error))
    if outcome is not Outcome.FINE:
        kind = ConfigurationError if outcome is Outcome.MISCONFIGURED else EvaluationError
        raised = kind(_reasons(trainer, error))
        if isinstance(raised, EvaluationError):
            raised.outcome = outcome
        raise raised from error
    return result  # type: ignore[return-value]


def stop_if_asked(trainer: Trainer) -> None:
    """Raise if the process was asked to end; Lightning sees to it once we are out of the way."""
    if trainer.received_sigterm:
        raise EvaluationError("the process was asked to end (SIGTERM)", Outcome.STOPPED)


def _outcome(error: Exception | None) -> Outcome:
    if error is None or _is_elsewhere(error):
        return Outcome.FINE
    if isinstance(error, EvaluationError):
        return error.outcome
    if isinstance(error, ConfigurationError):
        return Outcome.MISCONFIGURED
    if isinstance(error, ModelModifiedError):
        return Outcome.MODEL_MODIFIED
    if isinstance(error, NotFiniteError) or is_out_of_memory(error):
        return Outcome.CIRCUMSTANCES
    return Outcome.FAILED


def _is_elsewhere(error: BaseException | None) -> bool:
    """Whether another process failed, and this one only heard of it."""
    while error is not None:
        if isinstance(error, FailedElsewhereError):
            return True
        error = error.__cause__
    return False


def _worst(trainer: Trainer, outcome: Outcome) -> Outcome:
    own = torch.zeros(len(Outcome), device=trainer.strategy.root_device)
    own[outcome] = 1
    # Not every strategy knows a maximum, but all can sum.
    counts = trainer.strategy.reduce(own, reduce_op="sum")
    return Outcome(int(counts.nonzero().max()))


def _reasons(trainer: Trainer, error: Exception | None) -> str:
    """What went wrong, and on which processes: the same text on all of them."""
    own = "" if error is None or _is_elsewhere(error) else text_of(error)
    if trainer.world_size == 1 or not distributed.is_initialized():
        return own or "it failed on another process"
    texts: list[str] = [""] * trainer.world_size
    distributed.all_gather_object(texts, own)
    return "; ".join(f"on process {rank}: {text}" for rank, text in enumerate(texts) if text)
