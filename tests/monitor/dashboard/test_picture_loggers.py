"""Pictures stand in each logger's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

pytest.importorskip("matplotlib")

from aopc_monitor import AOPCMonitor
from aopc_monitor.monitor.dashboard.picture_loggers import FOLDER, Page, hand_over, is_a
from tests.modules import Classifier, loaders, trainer

TAGS = [f"aopc/figures/{k}" for k in ("heatmaps", "perturbation_curves", "training_progress")]
FILES = [f"{tag.replace('/', '_')}-{x:08d}.png" for tag in TAGS for x in (0, 5, 11)]


def fit(tmp_path: Path, *loggers: Any, **changes: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    monitor = AOPCMonitor(
        num_images=20, region_size=4, steps=4, data_range=(0.0, 1.0), on_error="raise",
        figures=True, **changes,
    )  # fmt: skip
    made = trainer(tmp_path, monitor, logger=list(loggers))
    made.fit(Classifier(), *loaders())
    return made


def files(folder: str | Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.png"))


def test_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path)
    fit(tmp_path, logger)
    events = accumulator.EventAccumulator(logger.log_dir, size_guidance={"images": 0}).Reload()
    assert sorted(events.Tags()["images"]) == TAGS
    for tag in TAGS:
        images = events.Images(tag)
        assert [image.step for image in images] == [0, 5, 11]
        assert all(len(image.encoded_image_string) < 60_000 for image in images)
    assert files(tmp_path) == []


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("ERROR_REPORTING", "false")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    logged: list[tuple[str, Any]] = []
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    log = logger.log_image

    def spy(key: str, images: list[Any], step: int) -> None:
        logged.append((key, step))
        log(key, images, step=step)

    monkeypatch.setattr(logger, "log_image", spy)
    fit(tmp_path, logger)
    wandb.finish()
    (folder,) = tmp_path.glob("wandb/offline-run-*/files/media/images/aopc/figures")
    kinds = sorted(path.name.split("_")[0] for path in folder.glob("*.png"))
    assert kinds == ["heatmaps"] * 3 + ["perturbation"] * 3 + ["training"] * 3
    for tag in TAGS:
        assert [step for key, step in logged if key == tag] == [0, 5, 11]
    assert not list(tmp_path.rglob(FOLDER))


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    logger = MLFlowLogger(tracking_uri=(tmp_path / "runs").as_uri(), prefix="run1")
    fit(tmp_path, logger, prefix="aopc, mine")
    found = [a.path for a in logger.experiment.list_artifacts(logger.run_id, "images")]
    pictures = sorted(path for path in found if path.endswith(".png"))
    assert len(pictures) == 9
    for kind in ("heatmaps", "perturbation_curves", "training_progress"):
        of_kind = [path for path in pictures if kind in path]
        assert all("run1-aopc_ mine" in path for path in of_kind)
        assert sorted(int(path.split("step")[1].split("time")[0][1:-1]) for path in of_kind) == [
            0, 5, 11,
        ]  # fmt: skip


def test_loggers_without_pictures_share_one_folder_of_files(tmp_path: Path) -> None:
    first, second = CSVLogger(tmp_path, "a"), CSVLogger(tmp_path, "b")
    made = fit(tmp_path, first, second)
    assert made.log_dir == first.log_dir
    assert files(first.log_dir) == [f"{FOLDER}/{name}" for name in FILES]
    assert files(second.log_dir) == []


def test_without_a_logger_files_go_to_the_root_folder(tmp_path: Path) -> None:
    fit(tmp_path)
    assert files(tmp_path) == [f"{FOLDER}/{name}" for name in FILES]
    from matplotlib.image import imread

    for name in FILES:
        picture = imread(tmp_path / FOLDER / name)
        assert picture.shape[2] == 3
        assert np.ptp(picture) > 0.5
        assert (tmp_path / FOLDER / name).stat().st_size < 60_000


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
def test_loggers_of_both_lightnings_are_known(package: str, tmp_path: Path) -> None:
    loggers = pytest.importorskip(f"{package}.loggers")

    class Mine(loggers.TensorBoardLogger):  # type: ignore[misc, name-defined]
        pass

    assert is_a(Mine(tmp_path), "TensorBoardLogger")
    assert not is_a(loggers.CSVLogger(tmp_path), "TensorBoardLogger")


def test_pictures_have_the_prefix_of_the_logger_as_numbers_do(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, prefix="run1")
    fit(tmp_path, logger)
    tags = accumulator.EventAccumulator(logger.log_dir).Reload().Tags()
    assert "run1-aopc/lrp" in tags["scalars"]
    assert sorted(tags["images"]) == [f"run1-{tag}" for tag in TAGS]


class Remembers(Logger):
    """A logger of the user's own, which has no folder and takes no pictures."""

    name, version = "mine", 0

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass

    log_hyperparams = log_metrics


class Elsewhere(Remembers):
    save_dir = "s3://bucket/runs"


def test_with_a_logger_without_a_folder_files_go_to_the_root_folder(tmp_path: Path) -> None:
    made = fit(tmp_path, Remembers())
    assert made.log_dir is None
    assert files(tmp_path) == [f"{FOLDER}/{name}" for name in FILES]


def test_a_folder_that_is_not_on_this_machine_is_refused_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="'s3://bucket/runs' is not on this machine") as caught:
        fit(tmp_path, Elsewhere())
    assert sum("not on this machine" in str(w.message) for w in caught) == 1
    assert files(tmp_path) == []
    assert not (tmp_path / "s3:").exists()


def test_a_refused_picture_costs_that_picture_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (TensorBoardLogger(tmp_path, version=version) for version in "ab")
    taken: list[str] = []

    def takes(tag: str, *args: Any, **kwargs: Any) -> None:
        if tag == "large":
            raise ValueError("too large")
        taken.append(tag)

    monkeypatch.setattr(second.experiment, "add_image", takes)
    made = trainer(tmp_path, logger=[first, second])
    pictures = dict.fromkeys(("a", "large", "z"), np.zeros((4, 4, 3), np.uint8))
    problems = hand_over(made, pictures, 0, None)
    assert taken == ["a", "z"]
    assert problems == {"TensorBoardLogger (trainer.loggers[1])": "large: ValueError: too large"}


def test_each_logger_is_warned_of_once_in_each_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise OSError("disk is full")

    monkeypatch.setitem(hand_over.__globals__["WAYS"], "CSVLogger", broken)
    loggers = [CSVLogger(tmp_path, name) for name in "ab"]
    watch = AOPCMonitor(
        num_images=20, region_size=4, steps=4, data_range=(0.0, 1.0), figures=True
    )  # fmt: skip
    made = trainer(tmp_path, watch, logger=loggers, max_epochs=1)
    for epochs in (1, 2):
        made.fit_loop.max_epochs = epochs
        with pytest.warns(UserWarning, match="did not take a figure") as caught:
            made.fit(Classifier(), *loaders())
        texts = [str(w.message) for w in caught if "disk is full" in str(w.message)]
        assert len(texts) == 2
        assert "(trainer.loggers[0])" in texts[0]
        assert "(trainer.loggers[1])" in texts[1]


PAGE = Page("<p>good</p>", "**▲good**")


def test_pages_of_text_go_to_the_loggers_that_show_them(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, prefix="run1")
    made = trainer(tmp_path, logger=[logger, CSVLogger(tmp_path)])
    assert hand_over(made, {"aopc/figures/texts": PAGE}, 3, str(tmp_path)) == {}
    logger.finalize("success")
    events = accumulator.EventAccumulator(logger.log_dir, size_guidance={"tensors": 0}).Reload()
    (event,) = events.Tensors("run1-aopc/figures/texts/text_summary")
    assert event.step == 3
    assert event.tensor_proto.string_val[0].decode() == "**▲good**"
    assert files(tmp_path) == []


def test_wandb_shows_pages_with_their_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("ERROR_REPORTING", "false")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    made = trainer(tmp_path, logger=WandbLogger(save_dir=tmp_path, offline=True))
    assert hand_over(made, {"aopc/figures/texts": PAGE}, 3, None) == {}
    wandb.finish()
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/aopc/figures/*.html")
    assert "<p>good</p>" in page.read_text()
