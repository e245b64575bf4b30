"""What networks return and take, as trainers have them: told, doubted, refused, and right."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from aopc_monitor import AOPCMonitor
from aopc_monitor.heatmaps import Occlusion
from aopc_monitor.monitor.errors import EvaluationError

CHOICES: dict[str, Any] = {"num_images": 16, "region_size": 4, "steps": 4, "data_range": (0.0, 1.0)}
IMAGES = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 4
AGES = torch.linspace(-1, 1, 24)[:, None]


class Batches(Dataset[Any]):
    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def body() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers)


class Module(pl.LightningModule):
    """A network, how it is called, and a training that does nothing to it."""

    def __init__(self, call: Any = None, columns: int = 4) -> None:
        super().__init__()
        self.body, self.call = body(), call or (lambda module, images: module.plain(images))
        self.head, self.age = nn.Linear(16, columns), nn.Linear(1, columns)

    def plain(self, images: Tensor) -> Tensor:
        return 20 * self.head(self.body(images))  # type: ignore[no-any-return]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.call(self, *inputs, **named)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.plain(torch.zeros(1, 3, 16, 16)).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def watched(
    tmp_path: Path, module: Module, item: Any = None, **changes: Any
) -> tuple[dict[str, float], list[str]]:
    """The first record of a training, and the monitor's warnings."""
    watch = AOPCMonitor(**{**CHOICES, **changes})
    loader = DataLoader(Batches(item or (lambda i: (IMAGES[i], LABELS[i]))), 8)
    quiet: dict[str, Any] = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False,
    }  # fmt: skip
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, limit_train_batches=1,
        callbacks=[watch], **quiet,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, loader, loader)
    texts = [str(warning.message) for warning in caught]
    return watch.history[0], [text for text in texts if text.startswith("AOPCMonitor")]


def values(record: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in record.items() if "seconds" not in key}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m, x: {"features": m.body(x), "logits": m.plain(x)}, "answer['logits'] of 4"),
        (lambda m, x: (m.plain(x), m.plain(x) + 1), "answer[0] of 4 columns is explained"),
        (lambda m, x: m.plain(x), "; taken as 4 classes, softmax"),
        (lambda m, x: m.plain(x).softmax(dim=1), "taken as 4 classes, probabilities already"),
    ],
)
def test_what_is_explained_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], call: Any, told: str
) -> None:
    record, doubts = watched(tmp_path, Module(call))
    assert told in capsys.readouterr().out
    assert doubts == []
    plain, _ = watched(tmp_path, Module())
    assert record["aopc/lrp"] == pytest.approx(plain["aopc/lrp"], abs=0.02)
    assert record["aopc/accuracy"] == plain["aopc/accuracy"]


def test_an_embedding_in_the_first_place_is_doubted_and_mended(tmp_path: Path) -> None:
    pair = lambda m, x: (m.body(x), m.plain(x))  # noqa: E731
    _, doubts = watched(tmp_path, Module(pair))
    assert any("answer[0] of 16 columns is explained, not answer[1]" in doubt for doubt in doubts)
    record, doubts = watched(tmp_path, Module(pair), output_fn=lambda answer: answer[1])
    assert doubts == []
    assert values(record) == values(watched(tmp_path, Module())[0])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.arange(24), "labels from 0 to 23 are none of the model's 4 classes, and not taken"),
        (LABELS + 1, "seem to be counted from 1"),
        ((torch.rand(24, 3) > 0.5).long(), 'for each image: give score="sigmoid"'),
    ],
)
def test_labels_that_are_none_of_the_network(tmp_path: Path, labels: Tensor, words: str) -> None:
    record, doubts = watched(tmp_path, Module(), lambda i: (IMAGES[i], labels[i]), num_images=24)
    assert any(words in doubt for doubt in doubts)
    assert "aopc/accuracy" not in record


@pytest.mark.parametrize(
    "change",
    [
        lambda y: torch.where(torch.arange(24) % 2 == 0, y, -1),
        lambda y: torch.where(torch.arange(24) % 2 == 0, y, 255).byte(),
    ],
)
def test_accuracy_without_the_unlabelled(tmp_path: Path, change: Any) -> None:
    labels, module = change(LABELS), Module()
    record, doubts = watched(tmp_path, module, lambda i: (IMAGES[i], labels[i]), num_images=24)
    right = (module.plain(IMAGES).argmax(1) == LABELS)[::2].float().mean()
    assert record["aopc/accuracy"] == pytest.approx(float(right))
    assert doubts == []


@pytest.mark.parametrize("in_the_network", [False, True])
def test_independent_labels(tmp_path: Path, in_the_network: bool) -> None:
    rows = torch.rand(24, 4, generator=torch.Generator().manual_seed(1)) > 0.5
    call = (lambda m, x: m.plain(x).sigmoid()) if in_the_network else None
    item = lambda i: (IMAGES[i], rows[i].float())  # noqa: E731
    module = Module(call)
    record, doubts = watched(tmp_path, module, item, score="sigmoid", num_images=24)
    assert doubts == []
    likely = module.plain(IMAGES).sigmoid()
    assert record["aopc/confidence"] == pytest.approx(float(likely.max(1).values.mean()), abs=1e-5)
    agree = (likely > 0.5) == rows
    assert record["aopc/accuracy"] == pytest.approx(float(agree.all(1).float().mean()))
    assert record["aopc/label_accuracy"] == pytest.approx(float(agree.float().mean()))


def test_rows_that_each_hold_one_independent_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, module = torch.eye(4)[LABELS], Module()
    item = lambda i: (IMAGES[i], rows[i])  # noqa: E731
    record, doubts = watched(tmp_path, module, item, score="sigmoid", num_images=24)
    assert doubts == []
    assert "labels from batch[1] (4 independent labels)" in capsys.readouterr().out
    agree = (module.plain(IMAGES).sigmoid() > 0.5) == rows.bool()
    assert record["aopc/accuracy"] == pytest.approx(float(agree.all(1).float().mean()))
    assert record["aopc/label_accuracy"] == pytest.approx(float(agree.float().mean()))


def test_one_hot_rows_for_one_number(tmp_path: Path) -> None:
    module = Module(columns=1)
    sides = (torch.arange(24) % 3 == 0).long()
    item = lambda i: (IMAGES[i], torch.eye(2)[sides[i]])  # noqa: E731
    record, doubts = watched(tmp_path, module, item, score="sigmoid", num_images=24)
    assert doubts == []
    right = ((module.plain(IMAGES)[:, 0] > 0).long() == sides).float().mean()
    assert record["aopc/accuracy"] == pytest.approx(float(right))
    assert "aopc/label_accuracy" not in record


@pytest.mark.parametrize("call", [None, lambda m, x: m.plain(x)[:, 0]])
def test_one_number(tmp_path: Path, call: Any) -> None:
    module = Module(call, columns=1)
    labels = (module.plain(IMAGES)[:, :1] > module.plain(IMAGES)[:, :1].median()).float()
    item = lambda i: (IMAGES[i], labels[i])  # noqa: E731
    record, doubts = watched(tmp_path, module, item, score="sigmoid", num_images=24)
    assert doubts == []
    p = module.plain(IMAGES)[:, 0].sigmoid()
    assert record["aopc/confidence"] == pytest.approx(float(torch.maximum(p, 1 - p).mean()))
    right = ((p > 0.5) == labels[:, 0].bool()).float().mean()
    assert record["aopc/accuracy"] == pytest.approx(float(right))


# What forward takes


def with_age(module: Module, images: Tensor, age: Tensor) -> Tensor:
    return module.plain(images) + 5 * module.age(age)


def of_known_age(module: Module, images: Tensor) -> Tensor:
    """What the same network says of images whose ages are known by the images themselves."""
    rows = [int((IMAGES[:, 0, -1, -1] - x[0, -1, -1]).abs().argmin()) for x in images]
    return with_age(module, images, AGES[rows])


AGED: Any = lambda i: {"image": IMAGES[i], "age": AGES[i], "label": LABELS[i]}  # noqa: E731


@pytest.mark.parametrize("heatmap", ["lrp", "occlusion", "smoothgrad", "grad_cam"])
@pytest.mark.parametrize(
    ("call", "inputs_fn"),
    [
        (with_age, lambda batch: batch["age"]),
        (lambda m, x, *, age: with_age(m, x, age), lambda batch: {"age": batch["age"]}),
        (lambda m, x, mode, age: with_age(m, x, age), lambda batch: ("fast", batch["age"])),
    ],
)
def test_further_inputs_stay_with_their_images(
    tmp_path: Path, heatmap: str, call: Any, inputs_fn: Any
) -> None:
    # The last pixel, by which an image is known, is in none of the regions of 5 x 5.
    made = {"occlusion": {"occlusion": Occlusion(region_size=5)}}.get(heatmap, heatmap)
    choices = {"heatmap": made, "region_size": 5, "replacement": "mean"}
    found, doubts = watched(tmp_path, Module(call), AGED, inputs_fn=inputs_fn, **choices)
    assert doubts == []
    wanted, _ = watched(tmp_path, Module(of_known_age), AGED, **choices)
    assert found["aopc/random"] == pytest.approx(wanted["aopc/random"], abs=1e-5)
    assert found["aopc/confidence"] == pytest.approx(wanted["aopc/confidence"], abs=1e-5)
    if heatmap != "smoothgrad":  # whose noise hides the pixel
        key = f"aopc/{heatmap}"
        assert found[key] == pytest.approx(wanted[key], abs=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        with_age,
        lambda m, batch: m.plain(batch["image"]),
        lambda m, image, label: m.plain(image),
    ],
)
def test_a_forward_that_takes_more_is_refused_with_the_way_out(tmp_path: Path, call: Any) -> None:
    words = r"given the images alone, \(16, 3, 16, 16\), and raised .*model_fn="
    with pytest.raises(EvaluationError, match=words):
        watched(tmp_path, Module(call), AGED)


def test_inputs_of_another_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"inputs_fn gave \(3, 1\) float32; wanted is one row"):
        watched(tmp_path, Module(with_age), AGED, inputs_fn=lambda batch: batch["age"][:3])


class Nested(Module):
    """What forward returns is of no use; networks are deeper inside."""

    def __init__(self) -> None:
        super().__init__(call=lambda m, x: x)
        self.parts = nn.ModuleDict({"student": nn.Sequential(self.body, Scaled(self.head))})


class Scaled(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return 20 * self.head(features)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "model_fn",
    [
        "parts.student",
        "plain",
        lambda module: module.plain,
        lambda module: lambda images: module.plain(images),
        lambda module: module.parts["student"],
    ],
)
def test_model_fn_is_a_name_or_gives_any_callable(tmp_path: Path, model_fn: Any) -> None:
    record, doubts = watched(tmp_path, Nested(), model_fn=model_fn)
    assert doubts == []
    assert values(record) == values(watched(tmp_path, Module())[0])


@pytest.mark.parametrize(
    ("model_fn", "message"),
    [
        ("teacher", "model_fn='teacher' is no attribute of the Module, which has body, head, age"),
        (lambda module: 3, "gave a int; wanted is a network"),
    ],
)
def test_what_model_fn_cannot_give(tmp_path: Path, model_fn: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        watched(tmp_path, Module(), model_fn=model_fn)
