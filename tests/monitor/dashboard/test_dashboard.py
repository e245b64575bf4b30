"""When figures are drawn in real trainings, and that nothing else changes thereby."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

pytest.importorskip("matplotlib")

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.dashboard import dashboard
from aopc_monitor.monitor.errors import EvaluationError, Outcome
from aopc_monitor.monitor.look import Look
from tests.modules import Classifier, Quadrants, loaders, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 20,
    "region_size": 4,
    "steps": 4,
    "data_range": (0.0, 1.0),
    "on_error": "raise",
    "figures": True,
}
KINDS = ("heatmaps", "perturbation_curves", "training_progress")


def monitor(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{**SETTINGS, **changes})


def fit(path: Path, *callbacks: Any, **kwargs: Any) -> pl.Trainer:
    """Two epochs of six steps, validated after each."""
    pl.seed_everything(0, verbose=False)
    ckpt_path, module = kwargs.pop("ckpt_path", None), kwargs.pop("module", None)
    made = trainer(path, *callbacks, **kwargs)
    made.fit(module or Classifier(), *loaders(), ckpt_path=ckpt_path)
    return made


def drawn(path: Path) -> dict[str, list[int]]:
    """The x of the pictures in a folder, by their tags."""
    steps: dict[str, list[int]] = {}
    for file in sorted((path / "aopc_figures").glob("*.png")):
        tag, step = file.stem.rsplit("-", 1)
        steps.setdefault(tag, []).append(int(step))
    return steps


def test_three_pictures_at_the_first_look_and_at_validations(tmp_path: Path) -> None:
    watch = monitor(every_n_steps=4)
    fit(tmp_path, watch)
    assert [record["step"] for record in watch.history] == [0, 4, 6, 8, 12]
    # As the numbers: after step s at x = s - 1.
    assert drawn(tmp_path) == {f"aopc_figures_{kind}": [0, 5, 11] for kind in KINDS}
    with_figures = [r["step"] for r in watch.history if r.get("aopc/figures_seconds", 0) > 0]
    assert with_figures == [0, 6, 12]


@pytest.mark.parametrize(
    ("settings", "evaluated", "expected"),
    [
        ({"figures_every_n_steps": 5}, [0, 5, 6, 10, 12], [0, 4, 9, 12]),
        ({"figures_every_n_steps": [3, 6]}, [0, 3, 6, 12], [0, 2, 5, 12]),
        ({"every_n_steps": 6, "at_validation": False}, [0, 6, 12], [0, 12]),
        # The schedule looks at step 6 just before the validation, which draws.
        ({"every_n_steps": 6}, [0, 6, 12], [0, 5, 11]),
        ({"every_n_steps": 4, "max_overhead": 0.01}, [0, 12], [0, 12]),
    ],
)
def test_rate(
    settings: dict[str, Any], evaluated: list[int], expected: list[int], tmp_path: Path
) -> None:
    watch = monitor(**settings)
    fit(tmp_path, watch)
    assert [record["step"] for record in watch.history] == evaluated
    assert set(map(tuple, drawn(tmp_path).values())) == {tuple(expected)}


def test_training_and_numbers_are_what_they_are_without_figures(tmp_path: Path) -> None:
    modules, monitors = [Classifier(), Classifier()], [monitor(), monitor(figures=False)]
    for module, watch in zip(modules, monitors, strict=True):
        pl.seed_everything(0, verbose=False)
        module.network = Classifier().network
        fit(tmp_path, watch, module=module)
    states = [module.state_dict() for module in modules]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    for record, other in zip(*(watch.history for watch in monitors), strict=True):
        timed = ("aopc/seconds", "aopc/overhead")
        assert all(record[key] == other[key] for key in other if key not in timed)
    # Only a look with figures pays for the least relevant first, and tells no key that was not
    # asked for.
    assert "aopc/lrp_srg" in monitors[0].history[0]
    assert "aopc/lrp_srg" not in fit(tmp_path, monitor()).callback_metrics


def test_a_look_without_figures_does_not_pay_for_them(tmp_path: Path) -> None:
    forwards: list[int] = []

    class Counts(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            forwards.append(watch.evaluations[""].forwards)

    watch = monitor(every_n_steps=1, at_validation=False)
    fit(tmp_path, watch, Counts())
    # 20 images, clean and in two orders of 4 steps; with figures in three.
    assert set(forwards) == {180}
    assert watch.evaluations[""].forwards == 260


@pytest.mark.parametrize("settings", [{}, {"every_n_steps": 6}], ids=["drawn", "evaluated before"])
def test_time_of_figures_is_published_and_counted(tmp_path: Path, settings: dict[str, Any]) -> None:
    watch = monitor(**settings)
    metrics = fit(tmp_path, watch).callback_metrics
    assert float(metrics["aopc/figures_seconds"]) > 0
    overhead = watch._look.overhead
    spent = sum(r["aopc/seconds"] + r["aopc/figures_seconds"] for r in watch.history)
    assert overhead.spent == pytest.approx(spent)


class Averages(pl.Callback):
    """Puts other weights in place while the trainer validates, and at the end."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end

    def shift(self, pl_module: Any, by: float) -> None:
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter += by

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking and not self.at_end:
            self.shift(pl_module, 0.25)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking and not self.at_end:
            self.shift(pl_module, -0.25)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.at_end:
            self.shift(pl_module, 0.25)


@pytest.mark.parametrize("at_end", [False, True])
def test_figures_show_the_weights_of_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_end: bool
) -> None:
    told: list[tuple[float, float]] = []
    original = dashboard.curves_panel

    def spy(evaluation: Any, *args: Any) -> Any:
        told.append((watch.history[-1]["aopc/confidence"], evaluation.mean("confidence")))
        return original(evaluation, *args)

    monkeypatch.setattr(dashboard, "curves_panel", spy)
    watch = monitor(figures_every_n_steps=100)
    fit(tmp_path, Averages(at_end), watch)
    # At the start, and of the network that the training leaves.
    assert len(told) == 2
    assert all(in_history == drawn for in_history, drawn in told)
    last = [record["aopc/confidence"] for record in watch.history if record["step"] == 12]
    assert len(last) == 2
    assert told[-1][0] == last[-1] != last[0]


def test_an_evaluation_for_figures_alone_that_fails_costs_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Look.measured

    def fails(self: Look, trainer: Any, pl_module: Any, lerf: bool) -> Any:
        if lerf and trainer.global_step > 0:
            raise EvaluationError("no memory for more", Outcome.CIRCUMSTANCES)
        return made(self, trainer, pl_module, lerf)

    monkeypatch.setattr(Look, "measured", fails)
    watch = monitor(every_n_steps=6)
    with pytest.warns(UserWarning, match="no memory for more"):
        metrics = fit(tmp_path, watch).callback_metrics
    assert [record["step"] for record in watch.history] == [0, 6, 12]
    assert "aopc/failures" not in metrics


def test_several_heatmaps_probes_and_no_labels(tmp_path: Path) -> None:
    probes = {"val": loaders()[1], "dark side": Quadrants(9).images * 0.5}
    watch = monitor(heatmap=["lrp", "sensitivity_l2"], dataloader=probes)
    fit(tmp_path, watch, limit_train_batches=1, max_epochs=1)
    expected = {f"aopc_{name}_figures_{k}": [0] for name in ("val", "dark_side") for k in KINDS}
    assert drawn(tmp_path) == expected


def test_a_resumed_run_goes_on_with_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[float]] = []
    original = dashboard.progress_panel

    def spy(history: Any, *args: Any) -> Any:
        shown.append([record["step"] for record in history])
        return original(history, *args)

    monkeypatch.setattr(dashboard, "progress_panel", spy)
    fit(tmp_path, monitor(), max_epochs=1).save_checkpoint(tmp_path / "c.ckpt")
    fit(tmp_path, monitor(), ckpt_path=tmp_path / "c.ckpt")
    assert shown == [[0], [0, 6], [0, 6, 12]]


def test_a_run_that_resumes_at_its_last_look_draws_it(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    first = fit(tmp_path, monitor(every_n_steps=4))
    first.save_checkpoint(tmp_path / "end.ckpt")
    watch = monitor(every_n_steps=4)
    fit(tmp_path / "again", watch, ckpt_path=str(tmp_path / "end.ckpt"))
    assert [record["step"] for record in watch.history] == [0, 4, 6, 8, 12]
    assert not [w for w in recwarn if "figures" in str(w.message)]


def test_a_dry_run_draws_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    original = dashboard.rendered

    def spy(figure: Any) -> Any:
        calls.append(figure)
        return original(figure)

    monkeypatch.setattr(dashboard, "rendered", spy)
    fit(tmp_path, monitor(), fast_dev_run=True)
    assert len(calls) == 3
    assert not (tmp_path / "aopc_figures").exists()


# What fails


def test_drawing_that_fails_warns_and_ends_after_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise ValueError("no such font")

    monkeypatch.setattr(dashboard, "progress_panel", broken)
    watch = monitor(figures_every_n_steps=2)
    with pytest.warns(UserWarning, match="no such font") as caught:
        made = fit(tmp_path, watch)
    texts = [str(w.message) for w in caught if "no such font" in str(w.message)]
    assert len(texts) == 2
    assert "could not make figures at step 0; training goes on. ValueError: no such" in texts[0]
    assert "at step 4; training goes on, from here on without figures" in texts[1]
    assert made.global_step == 12
    assert [record["step"] for record in watch.history] == [0, 2, 4, 6, 8, 10, 12]
    assert "aopc/failures" not in made.callback_metrics
    # Nobody pays any more for what is not drawn.
    assert watch.evaluations[""].forwards == 180


def test_a_logger_that_fails_costs_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise OSError("disk is full")

    monkeypatch.setitem(dashboard.hand_over.__globals__["WAYS"], "CSVLogger", broken)
    watch = monitor()
    with pytest.warns(UserWarning, match="CSVLogger did not take a figure") as caught:
        made = fit(tmp_path, watch, logger=[CSVLogger(tmp_path)])
    assert sum("disk is full" in str(w.message) for w in caught) == 1
    assert made.global_step == 12
    assert len(watch.history) == 3


def test_a_heatmap_that_writes_to_parameters_while_drawing_is_not_forgiven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes(trainer: Any, pl_module: Any, *args: Any) -> Any:
        from aopc_monitor.network.isolation import ModelModifiedError

        raise ModelModifiedError("parameters of the model changed")

    monkeypatch.setattr(dashboard, "sample_of", writes)
    with pytest.raises(RuntimeError, match="parameters of the model changed"):
        fit(tmp_path, monitor())


def test_an_image_that_cannot_be_shown_costs_the_pictures_alone(tmp_path: Path) -> None:
    class Forgets(Classifier):
        def forward(self, images: Any) -> Any:
            if len(images) == 6:  # the shown ones
                raise RuntimeError("six is too few")
            return super().forward(images)

    watch = monitor()
    with pytest.warns(UserWarning, match=r"could not make.*six is too few"):
        fit(tmp_path, watch, module=Forgets())
    assert len(watch.history) == 3


# What is given


def test_a_rate_of_figures_needs_figures() -> None:
    with pytest.raises(ValueError, match="figures_every_n_steps=5 makes no figure without figures"):
        monitor(figures=False, figures_every_n_steps=5)
    with pytest.raises(ValueError, match="figures_every_n_steps=0 must be at least 1"):
        monitor(figures_every_n_steps=0)


def test_figures_without_matplotlib_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "aopc-monitor\[figures\]"'):
        monitor()
    monitor(figures=False)


def test_nothing_is_drawn_outside_of_training(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*AOPCMonitor.*")
        trainer(tmp_path, monitor()).validate(Classifier(), loaders()[1], verbose=False)
    assert drawn(tmp_path) == {}
