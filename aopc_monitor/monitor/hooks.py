"""Lightning's hooks, translated: when there is something to do. No arithmetic of AOPC is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.averaging import CURRENT, changes_the_end, sees_averages
from aopc_monitor.monitor.cost import expected_share
from aopc_monitor.monitor.handover import Handover
from aopc_monitor.monitor.loggers import publish
from aopc_monitor.monitor.look import Look
from aopc_monitor.monitor.schedule import is_due
from aopc_monitor.monitor.settings import MonitorSettings, check_prefix
from aopc_monitor.monitor.trainers import check_forward, check_strategy, validation_loaders
from aopc_monitor.monitor.watch import TrainingWatch

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    from aopc_monitor.monitor.trainers import Callback


class Hooks(Callback):
    """The part of `AOPCMonitor` that the trainer calls.

    Attributes:
        settings: what the user gave.
        every_n_steps: the schedule in optimizer steps.
        at_validation: whether to look at the network whenever it is validated or tested.
        figures_every_n_steps: the schedule of figures; None for validations.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        every_n_steps: int | Sequence[int] | None,
        at_validation: bool,
        figures_every_n_steps: int | Sequence[int] | None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.every_n_steps = every_n_steps
        self.at_validation = at_validation
        self.figures_every_n_steps = figures_every_n_steps
        self._handover = Handover()
        self._begin()

    def _take_back(self) -> None:
        """Take over what spawned processes have found, if they have."""
        left = self._handover.found()
        if left is not None:
            self._watch.restore(left["watch"])
            self._look.evaluations = {
                name: Evaluation(sums, forwards)
                for name, (sums, forwards) in left["evaluations"].items()
            }

    def _hand_over(self, trainer: Trainer) -> None:
        """Leave what was found for the process that began the training."""
        evaluations = {
            name: ({key: value.cpu() for key, value in found.sums.items()}, found.forwards)
            for name, found in self._look.evaluations.items()
        }
        left = {"watch": self._watch.state(), "evaluations": evaluations}
        self._handover.leave(trainer, left)

    def _begin(self) -> None:
        """Begin with an empty history."""
        self._look = Look(self.settings)
        self._watch = TrainingWatch(self._look)
        self._last_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be looked at, and begin a new history for a new training."""
        check_strategy(trainer)
        self._take_back()
        check_prefix(trainer, self.settings.prefix)
        if self.settings.model_fn is None:
            check_forward(pl_module)
        if stage == "fit" and trainer.global_step == 0:
            # A new training, and not the checkpoint that may be loaded next.
            self._begin()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the probe, and look at the network as it starts or go on with a history."""
        self._last_step = trainer.global_step
        self._watch.start(
            trainer,
            pl_module,
            validation_loaders(trainer, pl_module),
            lambda cost: expected_share(trainer, self.every_n_steps, self.at_validation, cost),
            self._was_due(trainer.global_step),
            self._series(trainer) if trainer.global_step else "",
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the network if a step of the schedule was passed."""
        due = self._is_due(self._last_step, trainer.global_step)
        figures = self._figures_are_due(self._last_step, trainer.global_step)
        self._last_step = trainer.global_step
        if due or figures:
            self._watch.look(trainer, pl_module, figures=figures, series=self._series(trainer))

    def _series(self, trainer: Trainer) -> str:
        """What the values of the weights as they train are logged under."""
        return CURRENT if sees_averages(trainer, self) else ""

    def _was_due(self, step: int) -> Callable[[int], bool]:
        return lambda last: self._is_due(last, step) or self._figures_are_due(last, step)

    def _is_due(self, last_step: int, step: int) -> bool:
        return self.every_n_steps is not None and is_due(self.every_n_steps, last_step, step)

    def _figures_are_due(self, last_step: int, step: int) -> bool:
        every = self.figures_every_n_steps
        return every is not None and is_due(every, last_step, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the network as training leaves it."""
        series = self._series(trainer)
        self._watch.look(trainer, pl_module, figures=True, is_last=True, series=series)
        self._look.attempts.conclude(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if training leaves other weights than were looked at last, and hand over."""
        self._watch.fit_ended(trainer, pl_module, changes_the_end(trainer, self))
        self._hand_over(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the probe of a validation outside training."""
        if trainer.state.fn != "fit" and self.at_validation:
            self._look.prepare_alone(trainer, pl_module, trainer.val_dataloaders)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the network when it is validated."""
        if not self.at_validation or trainer.sanity_checking:
            return
        if trainer.state.fn == "fit":
            self._watch.look(trainer, pl_module, figures=self.figures_every_n_steps is None)
        else:
            self._log(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the weights that callbacks which average them have put back by now."""
        if trainer.state.fn == "fit":
            self._watch.validation_ended(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the probe of a test."""
        if self.at_validation:
            self._look.prepare_alone(trainer, pl_module, trainer.test_dataloaders)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the network when it is tested."""
        if self.at_validation:
            self._log(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the probe of a prediction."""
        if self.at_validation:
            self._look.prepare_alone(trainer, pl_module, trainer.predict_dataloaders)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the network when it predicts."""
        if self.at_validation:
            # Lightning has no logging of modules here.
            publish(trainer, self._look.evaluate_alone(trainer, pl_module))

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add to what `trainer.validate` and `trainer.test` return."""
        metrics = self._look.evaluate_alone(trainer, pl_module)
        # The same on every process already, but for the wall time.
        pl_module.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1, sync_dist=False)
