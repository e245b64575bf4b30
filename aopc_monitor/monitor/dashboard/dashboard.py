"""The figures of a monitor, made without harm to the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aopc_monitor.figures import rendered
from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.consensus import together
from aopc_monitor.monitor.dashboard.custom_scalars import write_layout
from aopc_monitor.monitor.dashboard.panels import (
    curves_panel,
    heatmaps_panel,
    progress_panel,
    text_page,
    worded,
)
from aopc_monitor.monitor.dashboard.picture_loggers import Page, Picture, hand_over
from aopc_monitor.monitor.dashboard.shown_images import Sample, class_names, sample_of
from aopc_monitor.monitor.dashboard.words import text_function
from aopc_monitor.monitor.errors import ConfigurationError, EvaluationError, Outcome, text_of, warn
from aopc_monitor.monitor.failures import Failures
from aopc_monitor.monitor.loggers import key, step_of
from aopc_monitor.monitor.measurement import Measurement
from aopc_monitor.monitor.settings import MonitorSettings
from aopc_monitor.monitor.trainers import is_dry_run
from aopc_monitor.network.chunks import ChunkSizesByNetwork

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

NOT_OURS = (Outcome.MODEL_MODIFIED, Outcome.STOPPED)


@dataclass(frozen=True)
class Found:
    """What there is to show, by the name of the probe.

    Attributes:
        sources: loaders or images of the probes.
        measurements: what is measured.
        evaluations: what was found, with the least relevant regions first.
        history: one record per evaluation, at least one.
        chunks: images at once.
    """

    sources: Mapping[str, Any]
    measurements: Mapping[str, Measurement]
    evaluations: Mapping[str, Evaluation]
    history: Sequence[Mapping[str, float]]
    chunks: ChunkSizesByNetwork


class Dashboard:
    """Makes figures of what was found at a look.

    Attributes:
        settings: what the user gave.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self._failures = Failures(task="make figures", without="figures")
        self._shown = 0  # looks there were when figures were last made
        self._refused: set[str] = set()

    def start(self, trainer: Trainer) -> None:
        """Begin anew, also after a resume."""
        self._failures = Failures(task="make figures", without="figures")
        self._shown = 0
        self._refused = set()
        if self.settings.custom_scalars:
            write_layout(trainer)

    @property
    def is_on(self) -> bool:
        """Whether figures are wanted, and can be made."""
        return self.settings.figures and not self._failures.is_off

    def has_shown(self, looks: int) -> bool:
        """Whether figures of what so many looks found were made, or tried."""
        return self._shown == looks

    def show(
        self, trainer: Trainer, pl_module: LightningModule, looks: int, gather: Callable[[], Found]
    ) -> None:
        """Make all figures and hand them on; all processes take part, and one makes them.

        Args:
            trainer: the Lightning trainer.
            pl_module: its module.
            looks: how many there were, with this one.
            gather: finds what there is to show, on all processes.

        Raises:
            EvaluationError: on every process, if the parameters changed, or the process was asked
                to end. Whatever else fails costs the pictures, and nothing else.
        """
        self._shown = looks
        # Asks all processes. A dry run leaves no files. Many loggers have no folder.
        folder = None if is_dry_run(trainer) else trainer.log_dir or trainer.default_root_dir
        try:
            found = gather()
            samples = together(trainer, lambda: self._samples(trainer, pl_module, found))
            together(trainer, lambda: self._make(trainer, pl_module, found, samples, folder))
        except (ConfigurationError, EvaluationError) as error:
            outcome = getattr(error, "outcome", Outcome.MISCONFIGURED)
            if outcome in NOT_OURS:
                raise
            text = self._failures.failed(trainer.global_step, text_of(error), outcome)
            is_news = self._failures.is_off or self._failures.total == 1
            if is_news and trainer.is_global_zero:
                warn(text)
        else:
            self._failures.succeeded()

    def _samples(
        self, trainer: Trainer, pl_module: LightningModule, found: Found
    ) -> dict[str, Sample]:
        network = self.settings.network(pl_module)
        return {
            probe: sample_of(trainer, pl_module, network, measurement, found.chunks)
            for probe, measurement in found.measurements.items()
        }

    def _make(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        found: Found,
        samples: Mapping[str, Sample],
        folder: str | None,
    ) -> None:
        if not trainer.is_global_zero:
            return
        pictures: dict[str, Picture | Page] = {}
        for probe, sample in samples.items():
            source = found.sources.get(probe)
            names = class_names(pl_module, source, sample.num_classes)
            text = text_function(self.settings.tokenizer, pl_module, source)
            pictures |= self._pictures(probe, found, worded(sample, text), names)
        for logger, problem in hand_over(trainer, pictures, step_of(trainer), folder).items():
            if logger not in self._refused:
                warn(f"{logger} did not take a figure; training goes on. {problem}")
            self._refused.add(logger)

    def _pictures(
        self, probe: str, found: Found, sample: Sample, names: Sequence[str] | None
    ) -> dict[str, Picture | Page]:
        settings, step = self.settings, int(found.history[-1]["step"])
        measurement = found.measurements[probe]
        heatmaps = list(measurement.heatmaps)
        score = settings.choices.score
        unit = score.replace("_", " ") if isinstance(score, str) else "score"
        figures = {
            "training_progress": progress_panel(
                found.history, settings.prefix, probe, heatmaps, unit
            ),
            "perturbation_curves": curves_panel(
                found.evaluations[probe], probe, heatmaps, unit, step, measurement.counts_shares
            ),
            "heatmaps": heatmaps_panel(sample, probe, names, step),
        }
        shown: dict[str, Picture | Page] = {
            kind: rendered(figure) for kind, figure in figures.items()
        }
        if sample.kind == "texts":
            shown["texts"] = text_page(sample, probe, names, step)
        return {key(settings.prefix, probe, f"figures/{kind}"): e for kind, e in shown.items()}
