"""What happens at a look, in real trainings."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor
from tests.modules import Classifier, Quadrants, loaders, small_network, trainer

SETTINGS: dict[str, Any] = {
    "num_images": 20,
    "region_size": 4,
    "steps": 4,
    "data_range": (0.0, 1.0),
    "every_n_steps": 3,
}


def monitor(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{**SETTINGS, **changes})


def fit(path: Path, *callbacks: Any, **kwargs: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    ckpt_path, module = kwargs.pop("ckpt_path", None), kwargs.pop("module", None)
    made = trainer(path, *callbacks, **kwargs)
    made.fit(module or Classifier(), *loaders(), ckpt_path=ckpt_path)
    return made


def steps(watch: AOPCMonitor) -> list[float]:
    return [record["step"] for record in watch.history]


# Several probes


def test_probes_have_their_own_keys_and_the_values_of_single_ones(tmp_path: Path) -> None:
    darker: Any = DataLoader(Quadrants(30, seed=5).images * 0.5, batch_size=7)  # type: ignore[arg-type]
    both = monitor(dataloader={"val": loaders()[1], "target": darker})
    made = fit(tmp_path, both)
    alone = {name: monitor(dataloader=source) for name, source in both.settings.sources.items()}
    for name, watch in alone.items():
        fit(tmp_path, watch)
        for record, single in zip(both.history, watch.history, strict=True):
            for kind in ("lrp", "lrp_gain", "random", "confidence"):
                assert record[f"aopc/{name}/{kind}"] == single[f"aopc/{kind}"]
    assert "aopc/val/accuracy" in made.callback_metrics
    assert "aopc/target/accuracy" not in made.callback_metrics
    assert "aopc/seconds" in made.callback_metrics
    assert set(both.evaluations) == {"val", "target"}
    assert "aopc/target/lrp" in made.progress_bar_metrics


def test_range_is_read_off_all_probes_together(tmp_path: Path) -> None:
    sources = {"dark": Quadrants(20).images * 0.1, "bright": Quadrants(20).images * 3}
    watch = monitor(dataloader=sources, data_range=None)
    fit(tmp_path, watch, limit_train_batches=1)
    ranges = [measurement.protocol.data_range for measurement in watch.measurements.values()]
    assert ranges[0] == ranges[1]
    assert ranges[0] is not None
    assert max(ranges[0][1]) == pytest.approx(float(sources["bright"].max()))  # type: ignore[arg-type]


@pytest.mark.parametrize("dataloader", [{}, {"": []}, {1: []}])
def test_names_of_probes_are_checked(dataloader: Any) -> None:
    with pytest.raises(ValueError, match="one or more loaders by their names"):
        monitor(dataloader=dataloader)


# Wall time


def test_evaluations_are_left_out_where_they_take_too_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = monitor(every_n_steps=1, max_overhead=0.01)
    fit(tmp_path, watch)
    assert steps(watch) == [0, 12]
    assert capsys.readouterr().out.count("more than 0.01 of the wall time (max_overhead)") == 1


def test_overhead_is_the_share_of_the_run(tmp_path: Path) -> None:
    watch = monitor()
    fit(tmp_path, watch)
    assert "aopc/overhead" not in watch.history[0]
    shares = [record["aopc/overhead"] for record in watch.history[1:]]
    assert all(0 < share < 1 for share in shares)


# Going on after a resume


def interrupted(path: Path, **changes: Any) -> tuple[AOPCMonitor, str]:
    """A training that ended after one epoch, between two steps of the schedule."""
    watch, checkpoint = monitor(every_n_steps=4, at_validation=False, **changes), path / "c.ckpt"

    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(checkpoint)

    fit(path, watch, Save(), max_epochs=1)
    return watch, str(checkpoint)


def test_a_resumed_run_has_the_history_of_an_uninterrupted_one(tmp_path: Path) -> None:
    _, checkpoint = interrupted(tmp_path)
    resumed = monitor(every_n_steps=4, at_validation=False)
    fit(tmp_path, resumed, ckpt_path=checkpoint)
    assert steps(resumed) == [0, 4, 8, 12]


def test_a_resumed_run_says_what_has_changed(tmp_path: Path) -> None:
    _, checkpoint = interrupted(tmp_path)
    other = monitor(
        every_n_steps=4, at_validation=False, dataloader=Quadrants(20, seed=9).images, seed=1
    )
    with pytest.warns(UserWarning, match="since the checkpoint") as caught:
        fit(tmp_path, other, ckpt_path=checkpoint)
    (text,) = [str(w.message) for w in caught if "since the checkpoint" in str(w.message)]
    assert "the images of the probe" in text
    assert "seed, from 0 to 1" in text
    assert "step 6 do not compare" in text
    assert steps(other) == [0, 4, 8, 12]


def test_a_resumed_run_that_measures_the_same_says_nothing(tmp_path: Path) -> None:
    def brightness(model: Any, images: Tensor, target: Tensor) -> Tensor:
        return images.mean(dim=1)

    heatmap = {"mine": brightness, "lrp": "lrp"}
    _, checkpoint = interrupted(tmp_path, heatmap=heatmap, data_range=None)
    again = monitor(every_n_steps=4, at_validation=False, heatmap=heatmap, data_range=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*since the checkpoint.*")
        fit(tmp_path, again, ckpt_path=checkpoint)


def test_state_is_texts_and_numbers(tmp_path: Path) -> None:
    watch, checkpoint = interrupted(tmp_path, dataloader={"a": loaders()[1]})
    states = torch.load(checkpoint, weights_only=True)["callbacks"]
    assert states[watch.state_key]["settings"]["a"]["seed"] == 0
    assert len(states[watch.state_key]["settings"]["a"]["probe"]) == 16


def test_a_copy_made_in_mid_run_holds_neither_trainer_nor_module(tmp_path: Path) -> None:
    copies: list[AOPCMonitor] = []

    class Copy(pl.Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            watch = trainer.callbacks[0]
            pickled = pickle.dumps(watch)
            assert b"Classifier" not in pickled
            copies.extend([pickle.loads(pickled), copy.deepcopy(watch)])

    watch = monitor()
    fit(tmp_path, watch, Copy())
    assert [copied.history for copied in copies] == [watch.history] * 2
    fit(tmp_path, copies[0])
    assert steps(copies[0]) == steps(watch)


# What comes in


def test_data_that_is_no_good_warns_and_training_goes_on(tmp_path: Path) -> None:
    watch = monitor(dataloader=[])
    with pytest.warns(UserWarning, match="gave no batch") as caught:
        made = fit(tmp_path, watch)
    ours = [str(w.message) for w in caught if "could not evaluate" in str(w.message)]
    assert [text.split(";")[0].split()[-1] for text in ours] == ["0", "3", "6"]
    assert "from here on without the monitor" in ours[-1]
    assert made.global_step == 12
    assert watch.history == []
    assert float(made.callback_metrics["aopc/failures"]) == 3


def test_a_monitor_that_is_off_is_seen_to_be_off_where_warnings_are_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(tmp_path, monitor(dataloader=[]))
    printed = capsys.readouterr().out
    assert printed.count("AOPCMonitor: switched off at step 6") == 1
    assert printed.count("3 evaluations failed in this training, the last at step 6: ") == 1
    assert "gave no batch" in printed
    logged = [r.getMessage() for r in caplog.records if r.name == "aopc_monitor"]
    assert "AOPCMonitor: switched off at step 6" in logged


def test_a_callback_that_waits_for_a_value_gets_one_error_and_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    stopping = EarlyStopping("aopc/lrp", mode="max")
    with pytest.raises(RuntimeError, match=r"aopc/lrp'\) waits for a value.*gave no batch"):
        fit(tmp_path, monitor(dataloader=[]), stopping)
    assert not any("gave no batch" in str(warning.message) for warning in recwarn)


def test_a_training_without_failures_ends_without_a_word_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, monitor())
    assert "failed" not in capsys.readouterr().out


def test_data_that_gets_better_is_taken_later(tmp_path: Path) -> None:
    calls: list[int] = []

    class LateLoader:
        def __iter__(self) -> Any:
            calls.append(1)
            return iter([Quadrants(8).images] if len(calls) > 2 else [])

    watch = monitor(dataloader=LateLoader())
    with pytest.warns(UserWarning, match="gave no batch"):
        fit(tmp_path, watch)
    assert steps(watch) == [6, 9, 12]


class Integers(Classifier):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        return images.float() / 255 if images.dtype == torch.uint8 else images, labels

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


WHOLE = (Quadrants(20).images * 255).to(torch.uint8)


def test_whole_numbers_given_as_a_tensor_name_the_hook_that_was_skipped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"uint8.*skips the hooks Integers\.on_after_batch_transf"):
        fit(tmp_path, monitor(dataloader=WHOLE), module=Integers())
    with pytest.raises(ValueError, match=r"uint8.*converted and normalised"):
        fit(tmp_path, monitor(dataloader=WHOLE))


def test_whole_numbers_from_a_loader_tell_where_to_convert_them(tmp_path: Path) -> None:
    loader = DataLoader([(image, 0) for image in WHOLE], batch_size=4)  # type: ignore[arg-type, var-annotated]
    with pytest.raises(ValueError, match=r"uint8.*no batch hook.*on_after_batch_transfer do it"):
        fit(tmp_path, monitor(dataloader=loader))
    watch = monitor(dataloader=loader)
    fit(tmp_path, watch, module=Integers(), limit_train_batches=1)
    assert watch.measurements[""].probe.images.is_floating_point()


class Scales(nn.Module):
    """A network that takes whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images.float() / 255)
        return outputs


def test_a_network_that_converts_them_itself_is_given_floats(tmp_path: Path) -> None:
    loader = DataLoader([(image, 0) for image in WHOLE], batch_size=4)  # type: ignore[arg-type, var-annotated]
    with pytest.raises(ValueError, match=r"if forward does, .*batch\[0\]\.float\(\)$"):
        fit(tmp_path, monitor(dataloader=loader), module=Classifier(Scales()))
    watch = monitor(
        dataloader=loader, images_fn=lambda batch: batch[0].float(), data_range=(0, 255)
    )
    fit(tmp_path, watch, module=Classifier(Scales()), limit_train_batches=1)
    assert watch.measurements[""].probe.images.max() == WHOLE.max()


def test_a_model_on_several_devices_is_refused_before_the_first_step(tmp_path: Path) -> None:
    spread = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4, device="meta"))
    with pytest.raises(ValueError, match=r"several devices \(cpu, meta\)"):
        fit(tmp_path, monitor(model_fn=lambda module: spread))


def test_predict_without_labels(tmp_path: Path) -> None:
    class Predicts(Classifier):
        def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch)

    watch, images = monitor(), Quadrants(20).images
    made = trainer(tmp_path, watch)
    predictions = made.predict(Predicts(), DataLoader(images, batch_size=8))  # type: ignore[arg-type]
    assert predictions is not None
    assert len(predictions) == 3
    assert set(made.callback_metrics) >= {"aopc/lrp", "aopc/lrp_gain", "aopc/random"}
    assert watch.evaluations[""].num_images == 20
    assert watch.history == []
