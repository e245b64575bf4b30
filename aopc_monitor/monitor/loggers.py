"""Numbers to Lightning: every logger, the progress bar, and what other callbacks look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.errors import text_of, warn

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

LERF_ENDINGS = ("_lerf", "_srg", "_survival", "_survival_lerf", "_survival_gap")
AGREEMENT = ("agreement", "agreement_sem")
# What a monitor tells of itself.
OWN_KINDS = ("seconds", "figures_seconds", "overhead", "failures")


def key(prefix: str, probe: str, kind: str) -> str:
    """What a number is logged under; the probe's name is empty for the only one.

    Example:
        >>> key("aopc", "", "lrp"), key("aopc", "target_domain", "lrp_gain")
        ('aopc/lrp', 'aopc/target_domain/lrp_gain')
    """
    return "/".join(part for part in (prefix, probe, kind) if part)


def record_of(prefix: str, evaluations: Mapping[str, Evaluation]) -> dict[str, float]:
    """All numbers of several probes' evaluations, under their keys."""
    return {
        key(prefix, probe, kind): value
        for probe, evaluation in evaluations.items()
        for kind, value in evaluation.summary().items()
    }


@dataclass(frozen=True)
class Keys:
    """The keys of one monitor.

    Attributes:
        prefix: first part of all.
        probes: names of the probes, "" for the only one.
        heatmaps: names of the heatmaps.
        lerf: whether the least relevant regions are perturbed first, too.
        compared: names of the probes that a reference predicts classes of.
    """

    prefix: str
    probes: Sequence[str]
    heatmaps: Sequence[str]
    lerf: bool
    compared: Sequence[str] = ()

    def public_part(self, record: Mapping[str, float]) -> dict[str, float]:
        """The documented keys of an evaluation, without the standard errors of the rest.

        Example:
            >>> keys = Keys("aopc", [""], ["lrp"], lerf=False)
            >>> keys.public_part({"aopc/lrp": 0.3, "aopc/lrp_gain_sem": 0.1})
            {'aopc/lrp': 0.3}
        """
        endings = ("", "_gain", "_sem", *(LERF_ENDINGS if self.lerf else ()))
        kinds = [f"{name}{ending}" for name in self.heatmaps for ending in endings]
        kinds += ["random", "confidence", "accuracy", "label_accuracy", *AGREEMENT]
        kinds += ["random_survival"] * self.lerf
        keys = [key(self.prefix, probe, kind) for probe in self.probes for kind in kinds]
        keys += [key(self.prefix, "", kind) for kind in OWN_KINDS]
        return {name: record[name] for name in keys if name in record}

    def on_progress_bar(self) -> list[str]:
        """The AOPC of each probe and heatmap."""
        return [key(self.prefix, probe, name) for probe in self.probes for name in self.heatmaps]

    def are_in(self, record: Mapping[str, float]) -> bool:
        """Whether a record has the values of all probes, heatmaps and orders."""
        endings = ("", "_srg") if self.lerf else ("",)
        wanted = [f"{name}{end}" for name in self.on_progress_bar() for end in endings]
        wanted += [key(self.prefix, probe, AGREEMENT[0]) for probe in self.compared]
        return all(name in record for name in wanted)


def publish(
    trainer: Trainer, metrics: Mapping[str, float], progress_bar: Sequence[str] = ()
) -> None:
    """Publish numbers from a callback while a trainer fits, past Lightning's own accumulation.

    `LightningModule.log` with `on_step` makes wrong curves here: it waits for `log_every_n_steps`
    and repeats stale values. The numbers go to each logger at the x that Lightning gives to a
    validation at the same moment, and where EarlyStopping, ModelCheckpoint and schedulers look.
    A logger that fails costs its point and not the training. The epoch goes with them, as it does
    with Lightning's own.

    Args:
        trainer: the Lightning trainer.
        metrics: finite numbers by key.
        progress_bar: keys that the progress bar shows.
    """
    remind(trainer, metrics, progress_bar)
    step = step_of(trainer)
    for logger in trainer.loggers:
        try:
            logger.log_metrics({**metrics, "epoch": _epoch_of(trainer)}, step=step)
        except Exception as error:  # a full disk, a server that is gone
            warn(
                f"{type(logger).__name__} did not take the values at step {step}; training goes "
                f"on. {text_of(error)}"
            )


def step_of(trainer: Trainer) -> int:
    """The x of what is logged now: that of Lightning's own validation metrics."""
    # Not a public name of Lightning; with one optimizer global_step is at most one away.
    step: int = getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step)
    return step


def _epoch_of(trainer: Trainer) -> int:
    """The epoch of the last step, as Lightning writes it beside its own metrics."""
    # When training ends, Lightning has counted on already.
    begun = trainer.fit_loop.epoch_progress.current.ready
    return min(trainer.current_epoch, max(begun - 1, 0))


def remind(
    trainer: Trainer, metrics: Mapping[str, float], progress_bar: Sequence[str] = ()
) -> None:
    """Publish numbers to other callbacks and the progress bar, but log no new point."""
    trainer.callback_metrics.update({key: torch.tensor(value) for key, value in metrics.items()})
    trainer.progress_bar_metrics.update(
        {key: metrics[key] for key in progress_bar if key in metrics}
    )
