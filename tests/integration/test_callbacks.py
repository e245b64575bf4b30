"""The monitor among Lightning's own callbacks, in both Lightnings."""

from __future__ import annotations

import copy
import csv
import pickle
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks as pl_callbacks
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau as Plateau

from aopc_monitor import AOPCMonitor
from tests.integration.test_fit_from_cli import PACKAGES, module_of
from tests.modules import Classifier, loaders

SETTINGS: dict[str, Any] = {"region_size": 4, "steps": 4, "data_range": (0.0, 1.0)}


def watch(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{"num_images": 20, "on_error": "raise", **SETTINGS, **changes})


def fit(tmp_path: Path, callbacks: list[Any], module: Any = Classifier, **kwargs: Any) -> Any:
    """Two epochs of six steps."""
    ckpt_path, package = kwargs.pop("ckpt_path", None), kwargs.pop("package", "pytorch_lightning")
    pl.seed_everything(0, verbose=False)
    settings = {
        "default_root_dir": tmp_path, "accelerator": "cpu", "logger": False, "max_epochs": 2,
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    trainer = import_module(package).Trainer(callbacks=callbacks, **{**settings, **kwargs})
    trainer.fit(module(), *loaders(), ckpt_path=ckpt_path)
    return trainer


def in_order(first: str, monitor: AOPCMonitor, other: Any) -> list[Any]:
    return [monitor, other] if first == "monitor" else [other, monitor]


def values(monitor: AOPCMonitor) -> list[float]:
    return [value for _, value in series(monitor)]


def series(monitor: AOPCMonitor, key: str = "aopc/lrp") -> list[tuple[float, float]]:
    return [(record["step"], record[key]) for record in monitor.history if key in record]


def value_of(trainer: Any) -> float:
    """AOPC of the same probe for the weights that a training has left."""
    module = trainer.lightning_module
    alone = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=watch()
    )
    (found,) = alone.validate(module, loaders()[1], verbose=False)
    return float(found["aopc/lrp"])


@PACKAGES
@pytest.mark.parametrize("first", ["monitor", "other"])
def test_early_stopping_finds_a_value_before_the_first_validation_and_after_a_resume(
    package: str, first: str, tmp_path: Path
) -> None:
    """With a validation every second epoch it is asked for where there was none, and is strict."""
    module, callbacks = module_of(package), import_module(f"{package}.callbacks")

    def run(epochs: int, **kwargs: Any) -> tuple[Any, Any, AOPCMonitor]:
        monitor = watch()
        stopping = callbacks.EarlyStopping(
            "aopc/lrp", mode="max", patience=4, min_delta=10.0, check_on_train_epoch_end=True
        )
        settings = {"max_epochs": epochs, "check_val_every_n_epoch": 2, "package": package}
        ordered = in_order(first, monitor, stopping)
        return fit(tmp_path, ordered, module, **settings, **kwargs), stopping, monitor

    made, stopping, monitor = run(2)
    assert stopping.wait_count == 1
    assert float(stopping.best_score) == pytest.approx(monitor.history[0]["aopc/lrp"])
    made.save_checkpoint(tmp_path / "last.ckpt")
    made, stopping, monitor = run(9, ckpt_path=str(tmp_path / "last.ckpt"))
    assert made.current_epoch == 5
    assert [record["step"] for record in monitor.history] == [0, 12, 24, 30]


@PACKAGES
def test_checkpoints_carry_the_value_in_their_names(package: str, tmp_path: Path) -> None:
    monitor, module = watch(), module_of(package)
    checkpoint = import_module(f"{package}.callbacks").ModelCheckpoint(
        tmp_path, "{step}-{aopc/lrp:.3f}", monitor="aopc/lrp", mode="max", save_top_k=-1,
        auto_insert_metric_name=False,
    )  # fmt: skip
    fit(tmp_path, [checkpoint, monitor], module, package=package, enable_checkpointing=True)
    names = {f"{r['step']}-{r['aopc/lrp']:.3f}.ckpt" for r in monitor.history[1:]}
    assert {path.name for path in tmp_path.glob("*.ckpt")} == names
    best = torch.load(checkpoint.best_model_path, weights_only=True)
    history = best["callbacks"][monitor.state_key]["history"]
    assert history[-1]["aopc/lrp"] == max(values(monitor)[1:])


def test_learning_rate_follows_the_value(tmp_path: Path) -> None:
    schedulers = []

    class Reduced(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            scheduler = Plateau(optimizer, "max", patience=0, threshold=9, threshold_mode="abs")
            schedulers.append(scheduler)
            watching = {"scheduler": scheduler, "monitor": "aopc/lrp"}
            return {"optimizer": optimizer, "lr_scheduler": watching}

    monitor = watch()
    made = fit(tmp_path, [monitor], Reduced, max_epochs=3)
    # The first value is the best by definition, and no later one is better by nine.
    assert schedulers[0].best == pytest.approx(values(monitor)[1])
    assert made.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 0.1**2)


@pytest.mark.parametrize("name", ["WeightAveraging", "EMAWeightAveraging"])
@pytest.mark.parametrize("first", ["monitor", "other"])
def test_the_order_decides_which_weights_a_validation_sees(
    name: str, first: str, tmp_path: Path
) -> None:
    monitor, alone = watch(every_n_steps=5), watch(every_n_steps=5)
    fit(tmp_path, in_order(first, monitor, averaging(name)))
    fit(tmp_path, [alone])
    trained = series(alone)
    assert [step for step, _ in trained] == [0, 5, 6, 10, 12]
    if first == "other":  # as the network trains, and the average that is put in place at the end
        assert series(monitor)[:5] == trained
        assert [step for step, _ in series(monitor)[5:]] == [12]
        assert not series(monitor, "aopc/current/lrp")
        return
    # Averaged at the validations after steps 6 and 12; what trains is another series.
    assert [step for step, _ in series(monitor)] == [0, 6, 12]
    assert series(monitor)[0] == trained[0]
    assert not set(series(monitor)[1:]) & set(trained)
    assert series(monitor, "aopc/current/lrp") == [trained[1], trained[3]]
    assert {"aopc/current/lrp", "aopc/current/random_sem"} <= set(monitor.history[1])


def test_no_series_has_two_values_at_one_step(tmp_path: Path) -> None:
    monitor, logger = watch(every_n_steps=3), CSVLogger(tmp_path)
    fit(tmp_path, [monitor, averaging("EMAWeightAveraging")], logger=logger)
    found = {key: series(monitor, key) for key in ("aopc/lrp", "aopc/current/lrp")}
    steps = {key: [step for step, _ in points] for key, points in found.items()}
    assert steps == {"aopc/lrp": [0, 6, 12], "aopc/current/lrp": [3, 6, 9, 12]}
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for key, points in found.items():
        written = [float(row[key]) for row in rows if row[key]]
        assert written == pytest.approx([value for _, value in points])


def test_a_resumed_run_goes_on_with_both_series(tmp_path: Path) -> None:
    def run(epochs: int, **kwargs: Any) -> tuple[AOPCMonitor, Any]:
        monitor = watch(every_n_steps=4)
        callbacks = [monitor, averaging("EMAWeightAveraging")]
        return monitor, fit(tmp_path, callbacks, max_epochs=epochs, **kwargs)

    run(1)[1].save_checkpoint(tmp_path / "one.ckpt")
    monitor, made = run(2, ckpt_path=str(tmp_path / "one.ckpt"))
    assert [step for step, _ in series(monitor)] == [0, 6, 12]
    assert [step for step, _ in series(monitor, "aopc/current/lrp")] == [4, 8, 12]
    assert {"aopc/lrp", "aopc/current/lrp"} <= set(made.callback_metrics)


def averaging(name: str) -> Any:
    if name == "StochasticWeightAveraging":
        return pl_callbacks.StochasticWeightAveraging(swa_lrs=1e-2, swa_epoch_start=1)
    if not hasattr(pl_callbacks, name):
        pytest.skip(f"this Lightning has no {name}")
    options = {"decay": 0.5} if name == "EMAWeightAveraging" else {}
    return getattr(pl_callbacks, name)(**options)


def without_batch_norm() -> Classifier:
    return Classifier(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 4))
    )


@pytest.mark.parametrize(
    ("name", "first", "every_n_steps", "module"),
    [
        ("WeightAveraging", "monitor", None, Classifier),
        ("WeightAveraging", "monitor", 6, Classifier),
        ("WeightAveraging", "other", None, Classifier),
        ("StochasticWeightAveraging", "other", None, Classifier),
        ("StochasticWeightAveraging", "other", None, without_batch_norm),
    ],
)
def test_the_last_value_is_that_of_the_weights_that_training_leaves(
    name: str, first: str, every_n_steps: int | None, module: Any, tmp_path: Path
) -> None:
    monitor = watch(every_n_steps=every_n_steps)
    made = fit(tmp_path, in_order(first, monitor, averaging(name)), module)
    assert values(monitor)[-1] == pytest.approx(value_of(made), abs=1e-6)


@pytest.mark.parametrize("first", ["monitor", "other"])
@pytest.mark.parametrize("module", [Classifier, without_batch_norm])
def test_a_last_value_of_other_weights_is_said_to_be_one(
    first: str, module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = watch()
    made = fit(tmp_path, in_order(first, monitor, averaging("StochasticWeightAveraging")), module)
    told = "StochasticWeightAveraging put others in place after it" in capsys.readouterr().out
    assert told == (values(monitor)[-1] != pytest.approx(value_of(made), abs=1e-6))
    # With batch normalisation the average is in place an epoch earlier.
    assert told == (first == "monitor" and module is without_batch_norm)


def test_two_monitors_with_one_prefix_are_refused(tmp_path: Path) -> None:
    class Brings(Classifier):
        def configure_callbacks(self) -> Any:
            return [watch(), watch(heatmap="sensitivity_l2")]

    with pytest.raises(ValueError, match=r"2 monitors have prefix='aopc'.*give each a prefix="):
        fit(tmp_path, [], Brings)
    # Lightning comes first with those of the trainer, in the words that the documentation has.
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `AOPCMonitor`"):
        fit(tmp_path, [watch(), watch(heatmap="sensitivity_l2")])
    both = [watch(), watch(heatmap="sensitivity_l2", prefix="second")]
    assert "second/sensitivity_l2" in fit(tmp_path, both, max_epochs=1).callback_metrics


class WithBackbone(Classifier):
    @property
    def backbone(self) -> nn.Module:
        return self.network[:4]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1e-2)


OTHERS: dict[str, Callable[[], Any]] = {
    "WeightAveraging": lambda: averaging("WeightAveraging"),
    "EMAWeightAveraging": lambda: averaging("EMAWeightAveraging"),
    "StochasticWeightAveraging": lambda: averaging("StochasticWeightAveraging"),
    "BackboneFinetuning": lambda: pl_callbacks.BackboneFinetuning(1),
    "LearningRateMonitor": lambda: pl_callbacks.LearningRateMonitor("step"),
    "Timer": lambda: pl_callbacks.Timer("00:01:00:00"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("first", ["monitor", "other"])
def test_weights_are_bit_identical_beside_other_callbacks(
    name: str, first: str, tmp_path: Path
) -> None:
    weights = []
    for watched in (False, True):
        other, settings = OTHERS[name](), {"max_epochs": 3, "logger": CSVLogger(tmp_path)}
        callbacks = in_order(first, watch(every_n_steps=1), other) if watched else [other]
        made = fit(tmp_path, callbacks, WithBackbone, **settings)
        weights.append(made.lightning_module.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@PACKAGES
@pytest.mark.parametrize("name", ["RichProgressBar", "TQDMProgressBar"])
def test_progress_bars_show_the_value(package: str, name: str, tmp_path: Path) -> None:
    if name == "RichProgressBar":
        pytest.importorskip("rich")
    monitor, module = watch(), module_of(package)
    bar = getattr(import_module(f"{package}.callbacks"), name)()
    made = fit(tmp_path, [bar, monitor], module, package=package, enable_progress_bar=True)
    shown = bar.get_metrics(made, made.lightning_module)
    assert shown["aopc/lrp"] == pytest.approx(values(monitor)[-1])
    assert not {"aopc/random", "aopc/seconds"} & set(shown)


class Copies(pl.Callback):
    """Copies the monitor in the middle of the training."""

    def __init__(self, monitor: AOPCMonitor) -> None:
        self.monitor = monitor

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 8:
            self.pickled = pickle.dumps(self.monitor)
            self.copies = [pickle.loads(self.pickled), copy.deepcopy(self.monitor)]


def test_the_monitor_is_copied_in_mid_run_with_its_history(tmp_path: Path) -> None:
    monitor = watch(every_n_steps=4)
    fit(tmp_path, [monitor, copies := Copies(monitor)])
    for one in copies.copies:
        assert one.history == monitor.history[:4]
        assert one.state_key == monitor.state_key
        fit(tmp_path, [one])
        assert values(one) == values(monitor)


def test_a_copied_monitor_holds_neither_trainer_nor_module(tmp_path: Path) -> None:
    monitor = watch()
    fit(tmp_path, [monitor, copies := Copies(monitor)])
    assert not any(name in copies.pickled for name in (b"Classifier", b"Trainer"))
    for one in copies.copies:
        assert not any(isinstance(getattr(v, "__self__", v), nn.Module) for v in vars(one).values())
