from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aopc_monitor import AOPCMonitor, heatmaps
from aopc_monitor.metrics.evaluation import evaluate
from aopc_monitor.monitor import AOPCMonitor as SameMonitor
from tests.modules import Classifier, ManualClassifier, Quadrants, loaders, small_network, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 20,
    "region_size": 4,
    "steps": 4,
    "data_range": (0.0, 1.0),
    "on_error": "raise",
}
KEYS = {
    f"aopc/{kind}"
    for kind in ("lrp", "random", "lrp_gain", "lrp_sem", "confidence", "accuracy", "seconds")
}
KEYS_LATER = KEYS | {"aopc/overhead"}


class Recorder(Logger):
    """Keeps every call."""

    name, version = "recorder", 0

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def steps_of(self, key: str) -> list[int | None]:
        return [step for step, metrics in self.calls if key in metrics]


def monitor(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{**SETTINGS, **changes})


def fit(tmp_path: Path, *callbacks: Any, module: Any = None, **kwargs: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    fitted = trainer(tmp_path, *callbacks, **kwargs)
    fitted.fit(module or Classifier(), *loaders())
    return fitted


def test_documented_keys_reach_every_logger_at_the_steps_of_validation(tmp_path: Path) -> None:
    first, second, watch = Recorder(), Recorder(), monitor()
    fitted = fit(tmp_path, watch, logger=[first, second])
    # 48 images in batches of 8: 6 steps an epoch, validation after each of 2 epochs.
    assert first.steps_of("aopc/lrp") == [0, *first.steps_of("accuracy/val")] == [0, 5, 11]
    assert second.calls == first.calls
    logged = [metrics for _, metrics in first.calls if "aopc/lrp" in metrics]
    # With the epoch, as Lightning's own.
    assert [metrics.pop("epoch") for metrics in logged] == [0, 0, 1]
    assert [set(metrics) for metrics in logged] == [KEYS, KEYS_LATER, KEYS_LATER]
    assert [record["step"] for record in watch.history] == [0, 6, 12]
    for record, metrics in zip(watch.history, logged, strict=True):
        assert {key: record[key] for key in metrics} == metrics
    assert set(fitted.callback_metrics) >= KEYS
    assert float(fitted.callback_metrics["aopc/lrp"]) == pytest.approx(
        watch.history[-1]["aopc/lrp"]
    )
    assert "aopc/lrp" in fitted.progress_bar_metrics


def test_the_numbers_are_those_of_the_evaluation(tmp_path: Path) -> None:
    watch, module = monitor(heatmap=["lrp", "sensitivity_l2"]), Classifier()
    fit(tmp_path, watch, module=module)
    parts = [
        evaluate(module, b.images, b.labels, watch.heatmaps, watch.measurements[""].protocol, 0)
        for b in watch.measurements[""].probe.blocks()
    ]
    expected = (parts[0] + parts[1]).summary()
    found = {
        key.removeprefix("aopc/"): value
        for key, value in watch.history[-1].items()
        if key not in ("step", "aopc/seconds", "aopc/overhead")
    }
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "settings", "expected"),
    [
        (4, {}, [0, 4, 8, 12]),
        ([1, 3, 10], {}, [0, 1, 3, 10, 12]),
        (2, {"accumulate_grad_batches": 2}, [0, 2, 4, 6]),
        (100, {}, [0, 12]),
    ],
)
def test_schedule(
    schedule: Any, settings: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    watch = monitor(every_n_steps=schedule, at_validation=False)
    fit(tmp_path, watch, **settings)
    assert [record["step"] for record in watch.history] == expected


def test_schedule_of_manual_optimization_counts_optimizer_steps(tmp_path: Path) -> None:
    watch = monitor(every_n_steps=5, at_validation=False)
    fit(tmp_path, watch, module=ManualClassifier())
    assert [record["step"] for record in watch.history] == [0, 6, 10, 16, 20, 24]


def test_no_step_is_evaluated_twice(tmp_path: Path) -> None:
    watch = monitor(every_n_steps=3, at_validation=True)
    fit(tmp_path, watch)
    assert [record["step"] for record in watch.history] == [0, 3, 6, 9, 12]


def test_early_stopping_and_checkpoint_can_watch_it(tmp_path: Path) -> None:
    watch = monitor()
    checkpoint = ModelCheckpoint(
        tmp_path, "{epoch}-{aopc/lrp:.3f}", monitor="aopc/lrp", mode="max",
        auto_insert_metric_name=False,
    )  # fmt: skip
    stopping = EarlyStopping("aopc/lrp", mode="max", patience=1, min_delta=10.0)
    fitted = fit(tmp_path, watch, stopping, checkpoint, max_epochs=9, enable_checkpointing=True)
    assert fitted.current_epoch == 2
    best = max(record["aopc/lrp"] for record in watch.history[1:])
    assert float(checkpoint.best_model_score or 0) == pytest.approx(best)


def test_loggers_on_disk(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board, table = TensorBoardLogger(tmp_path, name="tb"), CSVLogger(tmp_path, name="csv")
    watch = monitor()
    fit(tmp_path, watch, logger=[board, table])
    events = EventAccumulator(board.log_dir).Reload()
    scalars = [(event.step, event.value) for event in events.Scalars("aopc/lrp")]
    assert [step for step, _ in scalars] == [0, 5, 11]
    values = [record["aopc/lrp"] for record in watch.history]
    assert [value for _, value in scalars] == pytest.approx(values)
    rows = (Path(table.log_dir) / "metrics.csv").read_text()
    assert "aopc/lrp_gain" in rows.splitlines()[0]


def test_validate_and_test_return_the_values(tmp_path: Path) -> None:
    module, (_, validation) = Classifier(), loaders()
    alone = trainer(tmp_path, monitor())
    validated = alone.validate(module, validation, verbose=False)[0]
    tested = trainer(tmp_path, monitor()).test(module, validation, verbose=False)[0]
    assert set(validated) == set(tested) == KEYS | {"accuracy/val"}
    assert validated["aopc/lrp"] == tested["aopc/lrp"]


def weights_and_numbers(path: Path, **settings: Any) -> tuple[list[Tensor], list[float]]:
    torch.manual_seed(0)
    watch, module = monitor(every_n_steps=2, **settings), Classifier()
    fit(path, watch, module=module)
    numbers = [value for one in watch.history for key, value in one.items() if key in KEYS_OF_AREA]
    return [*module.parameters(), *module.buffers()], numbers


KEYS_OF_AREA = ("aopc/lrp", "aopc/random", "aopc/lrp_sem")


def test_fused_forwards_give_the_same_numbers_and_the_same_training(tmp_path: Path) -> None:
    """At each look the weights are others; twice the same run has the same numbers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="backend=")
        fused, again = (weights_and_numbers(tmp_path, backend="fused") for _ in range(2))
    eager = weights_and_numbers(tmp_path)
    for weights in zip(fused[0], again[0], eager[0], strict=True):
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[0], weights[2])
    assert fused[1] == again[1]
    assert len(set(fused[1])) > len(KEYS_OF_AREA)
    assert fused[1] == pytest.approx(eager[1], abs=1e-5)
    assert fused[1] != eager[1]


def test_back_ends_for_fixed_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="backend='auto' is none of a monitor"):
        monitor(backend="auto")


def test_probe_needs_no_labels(tmp_path: Path) -> None:
    images = torch.stack([image for image, _ in Quadrants(24, seed=3)])
    for source in (images, DataLoader(images, batch_size=5), [{"pixel_values": images}]):  # type: ignore[var-annotated, arg-type]
        watch = monitor(dataloader=source)
        fit(tmp_path, watch)
        assert "aopc/accuracy" not in watch.history[-1]
        assert "aopc/lrp" in watch.history[-1]


def test_batch_hooks_of_the_module_see_a_validation_batch(tmp_path: Path) -> None:
    class Hooked(Classifier):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            images, labels = batch
            return images * (0.0 if self.trainer.training else 0.5), labels

    watch = monitor()
    fit(tmp_path, watch, module=Hooked(), limit_train_batches=1)
    assert 0.4 < float(watch.measurements[""].probe.images.max()) <= 0.5


def test_what_is_not_given_is_chosen_printed_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = AOPCMonitor(num_images=20)
    fitted = fit(tmp_path, watch)
    low, _ = watch.measurements[""].protocol.data_range or (None, None)
    assert low == pytest.approx(watch.measurements[""].probe.images.amin(dim=(0, 2, 3)).tolist())
    printed = capsys.readouterr().out
    assert "20 images of 16 x 16, regions of 2 x 2, 4 sampled of 32 steps, lrp and " in printed
    assert "180 forwards an evaluation; data range read off the images" in printed
    # In an epoch one evaluation of 180 forwards and 20 heatmaps, and 6 steps on 8 images.
    assert "evaluations will take about 62.5% of the training time" in printed
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    again = AOPCMonitor(num_images=20)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"][watch.state_key]
    again.load_state_dict(state)
    assert again.history == watch.history


def test_resumed_run_goes_on(tmp_path: Path) -> None:
    first = monitor()
    fit(tmp_path, first).save_checkpoint(tmp_path / "last.ckpt")
    second = monitor()
    resumed = trainer(tmp_path, second, max_epochs=3)
    seen: list[float] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append(float(trainer.callback_metrics["aopc/lrp"]))

    resumed.callbacks.append(Look())  # type: ignore[attr-defined]
    resumed.fit(Classifier(), *loaders(), ckpt_path=str(tmp_path / "last.ckpt"))
    assert seen == pytest.approx([first.history[-1]["aopc/lrp"]])
    assert [record["step"] for record in second.history] == [0, 6, 12, 18]
    assert second.history[:3] == first.history


def test_a_new_training_starts_a_new_history(tmp_path: Path) -> None:
    watch = monitor()
    for _ in range(2):
        fit(tmp_path, watch)
        assert [record["step"] for record in watch.history] == [0, 6, 12]


def test_two_monitors_have_their_own_keys_and_state(tmp_path: Path) -> None:
    def pair() -> list[AOPCMonitor]:
        return [monitor(), monitor(heatmap="sensitivity_l2", prefix="other", num_images=8)]

    fitted = fit(tmp_path, *pair())
    assert {"aopc/lrp", "other/sensitivity_l2"} <= set(fitted.callback_metrics)
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    one, other = pair()
    resumed = trainer(tmp_path, one, other, max_epochs=3)
    resumed.fit(Classifier(), *loaders(), ckpt_path=str(tmp_path / "last.ckpt"))
    assert len(one.history) == len(other.history) == 4
    assert all("aopc/lrp" in record for record in one.history)
    assert all("other/sensitivity_l2" in record for record in other.history)


def test_range_read_off_in_training_is_kept_for_the_test(tmp_path: Path) -> None:
    watch = monitor(data_range=None)
    fitted = fit(tmp_path, watch)
    before = watch.measurements[""].protocol.data_range
    darker = TensorDataset(Quadrants(40).images * 0.5, Quadrants(40).labels)
    fitted.test(fitted.lightning_module, DataLoader(darker, batch_size=8), verbose=False)
    assert float(watch.measurements[""].probe.images.max()) <= 0.5
    assert watch.measurements[""].protocol.data_range == before


def test_validation_that_comes_late(tmp_path: Path) -> None:
    watch = monitor()
    fit(tmp_path, watch, check_val_every_n_epoch=2, num_sanity_val_steps=0)
    assert [record["step"] for record in watch.history] == [0, 12]


def test_what_forward_logs_is_not_polluted(tmp_path: Path) -> None:
    class Logs(Classifier):
        def forward(self, images: Tensor) -> Tensor:
            outputs = super().forward(images)
            self.log("mean_output", outputs.mean(), on_epoch=True, on_step=False)
            return outputs

    logged = []
    for callbacks in ([], [monitor(every_n_steps=1)]):
        pl.seed_everything(0, verbose=False)
        recorder = Recorder()
        fit(tmp_path, *callbacks, module=Logs(), logger=recorder)
        logged.append([m["mean_output"] for _, m in recorder.calls if "mean_output" in m])
    assert len(logged[0]) == 4
    assert logged[0] == logged[1]


def test_names_do_not_matter(tmp_path: Path) -> None:
    class LightningNet(Classifier):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)

    fit(tmp_path, monitor(), module=LightningNet(), limit_train_batches=1)


def test_fast_dev_run(tmp_path: Path) -> None:
    watch = monitor()
    fit(tmp_path, watch, fast_dev_run=True)
    assert len(watch.measurements[""].probe.images) == 4
    assert [record["step"] for record in watch.history] == [0]


class Breaks(Classifier):
    """Returns NaN in evaluation once training has begun."""

    def forward(self, images: Tensor) -> Tensor:
        outputs = super().forward(images)
        broken = not self.training and self.trainer.global_step > 0
        return outputs * float("nan") if broken else outputs


def test_failures_warn_and_training_goes_on(tmp_path: Path) -> None:
    recorder, watch = Recorder(), monitor(every_n_steps=1, at_validation=False, on_error="warn")
    with pytest.warns(UserWarning, match="NaN or infinite") as caught:
        fitted = fit(tmp_path, watch, module=Breaks(), logger=recorder)
    assert fitted.global_step == 12
    ours = [str(w.message) for w in caught if "AOPCMonitor" in str(w.message)]
    assert len(ours) == 3
    assert "step 1; training goes on" in ours[0]
    assert "from here on without the monitor" in ours[2]
    assert [m["aopc/failures"] for _, m in recorder.calls if "aopc/failures" in m] == [1, 2, 3]
    assert recorder.steps_of("aopc/lrp") == [0]


def test_failures_raise_if_wanted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="NaN or infinite"):
        fit(tmp_path, monitor(every_n_steps=1), module=Breaks())


def no_forward() -> Any:
    class NoForward(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Classifier()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.inner(batch[0]).sum()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-6)

    return NoForward()


def test_model_fn_chooses_the_network(tmp_path: Path) -> None:
    watch = monitor(model_fn=lambda module: module.inner, dataloader=loaders()[1])
    fit(tmp_path, watch, module=no_forward())
    assert len(watch.history) >= 1


IMAGES = torch.rand(8, 3, 16, 16)


class Wrong(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return self._conv_forward(images, self.weight, self.bias)


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (Classifier, {"region_size": 17}, "region_size=17 does not fit images of 16 x 16"),
        (Classifier, {"steps": 17}, "steps=17 is more than the 16 regions"),
        (Classifier, {"data_range": ([0.0] * 4, [1.0] * 4)}, "4 numbers for images of 3 channels"),
        (Classifier, {"dataloader": torch.zeros(20, 3, 16, 16), "data_range": None}, "constant"),
        (no_forward, {}, "NoForward has no forward"),
        (lambda: Classifier(Wrong(3, 3, 1)), {}, r"returned a tensor of shape \(16, 3, 16, 16\)"),
        (Classifier, {"heatmap": {"bad": lambda m, x, t: x}}, "heatmaps has shape"),
        (
            Classifier,
            {"dataloader": [(torch.arange(8), IMAGES)]},
            r"lambda batch: batch\[1",
        ),
        (Classifier, {"dataloader": [{"scan": IMAGES}]}, "perhaps lambda batch: batch.'scan'"),
        (Classifier, {"dataloader": [{"image": IMAGES[:, 0]}]}, r"images alone, \(8, 16, 16\)"),
        (Classifier, {"images_fn": lambda batch: batch["scan"]}, "inputs_fn. raised TypeError"),
        (Classifier, {"labels_fn": lambda batch: batch[1] + 0.5}, "labels_fn .* is not taken for"),
    ],
)
def test_mistakes_raise_before_the_first_step(
    module: Any, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    made = module()
    weights = [p.clone() for p in made.parameters()]
    with pytest.raises((ValueError, RuntimeError), match=message):
        fit(tmp_path, monitor(on_error="warn", **changes), module=made, num_sanity_val_steps=0)
    assert all(torch.equal(p, w) for p, w in zip(made.parameters(), weights, strict=True))


def test_sharded_models_are_refused(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.strategy.__class__ = type("FSDPStrategy", (type(made.strategy),), {})
    with pytest.raises(ValueError, match="cannot look at a model under FSDPStrategy"):
        monitor().setup(made, Classifier(), "fit")


def test_no_validation_loader_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no validation loader"):
        trainer(tmp_path, monitor()).fit(Classifier(), loaders()[0])


def test_a_module_that_is_never_validated_is_named(tmp_path: Path) -> None:
    class Trains(Classifier):
        validation_step = pl.LightningModule.validation_step  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"found no validation loader .*without validation_step"):
        trainer(tmp_path, monitor()).fit(Trains(), *loaders())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps=0 must be at least 1"),
        ({"heatmap": "grad"}, "heatmap='grad' is unknown: choose one of sensitivity_l2"),
        ({"num_images": 0}, "num_images=0"),
        ({"num_images": 1.5}, "num_images=1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"data_range": 1.0}, "data_range=1.0 is not a pair"),
        ({"data_range": (1.0, 0.0)}, "low < high"),
        ({"steps": 0}, "steps=0"),
        ({"region_size": 0}, "region_size=0"),
        (
            {"heatmap": ["lrp", "gradcam"]},
            r"heatmap='gradcam' is unknown \(did you mean 'grad_cam'",
        ),
        ({"replacement": "black"}, "replacement='black'"),
        ({"score": "p"}, "score='p'"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
    ],
)
def test_wrong_arguments_are_named_in_the_constructor(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        monitor(**changes)


def test_settings_without_their_names_are_told() -> None:
    make: Any = AOPCMonitor
    with pytest.raises(TypeError, match="and 500, 64 came, too: give settings by name"):
        make("lrp", 500, 64)


def test_custom_heatmaps_are_logged_under_their_names(tmp_path: Path) -> None:
    def brightness(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return images.mean(dim=1)

    watch = monitor(heatmap=[brightness, "lrp"])
    fit(tmp_path, watch)
    named = monitor(heatmap={"lrp_epsilon1": heatmaps.LRPEpsilon(1.0)})
    fit(tmp_path, named)
    assert {"aopc/brightness", "aopc/lrp_gain"} <= set(watch.history[-1])
    assert "aopc/lrp_epsilon1_sem" in named.history[-1]


def test_both_lightnings_take_it(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    assert SameMonitor is AOPCMonitor
    assert issubclass(AOPCMonitor, lightning.Callback)
    assert issubclass(AOPCMonitor, pl.Callback)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = small_network()

        forward = Classifier.forward
        training_step = Classifier.training_step
        validation_step = Classifier.validation_step
        configure_optimizers = Classifier.configure_optimizers

    watch = monitor()
    lightning.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, max_epochs=1,
        enable_checkpointing=False, enable_progress_bar=False, callbacks=[watch],
    ).fit(Module(), *loaders())  # fmt: skip
    assert [record["step"] for record in watch.history] == [0, 6]


def test_the_page_of_the_monitor_has_each_argument_once() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()
    table = page.split("| group | arguments |")[1].split("\n\n")[0]
    parameters = inspect.signature(AOPCMonitor).parameters.items()
    arguments = [name for name, p in parameters if p.kind is not p.VAR_POSITIONAL]
    assert re.findall(r"`(\w+)`", table) == arguments
