"""`AOPCMonitor(reference=...)` in real trainings: values, resuming, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from aopc_monitor import AOPCMonitor, FixedReference
from aopc_monitor.metrics import cohen_kappa, cohen_kappa_standard_error
from tests.modules import Classifier, Quadrants, loaders, small_network, trainer
from tests.monitor import test_texts as texts
from tests.monitor.test_returned import AGES, IMAGES, LABELS, Module, watched

SETTINGS: dict[str, Any] = {
    "num_images": 40,
    "region_size": 4,
    "steps": 2,
    "data_range": (0.0, 1.0),
    "on_error": "raise",
}
KEYS = {"aopc/agreement", "aopc/agreement_sem"}


def quadrants(images: Tensor) -> Tensor:
    """The brightest quadrant, which is right."""
    return nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)


def first_class(images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.long)


def monitor(**changes: Any) -> AOPCMonitor:
    return AOPCMonitor(**{**SETTINGS, "reference": quadrants, **changes})


def fit(path: Path, *callbacks: Any, module: Any = None, **kwargs: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    ckpt_path = kwargs.pop("ckpt_path", None)
    made = trainer(path, *callbacks, **kwargs)
    made.fit(module or Classifier(), *loaders(), ckpt_path=ckpt_path)
    return made


def without_times(record: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in record.items() if not k.endswith(("seconds", "overhead"))}


def expected(watch: AOPCMonitor, module: Any, reference: Callable[..., Any]) -> dict[str, float]:
    """What the last look has to say."""
    images = watch.measurements[""].probe.images
    with torch.no_grad():
        predicted = module.eval()(images).argmax(1)
    other = reference(images).argmax(1)
    return {
        "aopc/agreement": float(cohen_kappa(predicted, other)),
        "aopc/agreement_sem": float(cohen_kappa_standard_error(predicted, other)),
    }


def test_agreement_is_logged_and_nothing_else_changes(tmp_path: Path) -> None:
    watch, plain = monitor(every_n_steps=2), monitor(reference=None, every_n_steps=2)
    made, without = fit(tmp_path, watch), fit(tmp_path, plain)
    assert set(made.callback_metrics) - set(without.callback_metrics) == KEYS
    for record, other in zip(watch.history, plain.history, strict=True):
        left = {k: v for k, v in without_times(record).items() if k not in KEYS}
        assert left == without_times(other)
    assert watch.evaluations[""].forwards == plain.evaluations[""].forwards
    last = expected(watch, made.lightning_module, quadrants)
    assert {key: watch.history[-1][key] for key in KEYS} == pytest.approx(last, abs=1e-9)
    assert len({record["aopc/agreement"] for record in watch.history}) > 1


def test_the_reference_is_asked_once_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def counts(images: Tensor) -> Tensor:
        seen.append(len(images))
        return quadrants(images)

    fit(tmp_path, monitor(reference=counts, every_n_steps=1))
    assert sum(seen) == 40
    assert "compared with <function test_the_reference" in capsys.readouterr().out


def test_a_checkpoint_is_chosen_by_it(tmp_path: Path) -> None:
    keep = ModelCheckpoint(
        tmp_path, monitor="aopc/agreement", mode="max", filename="best", save_top_k=1
    )
    watch = monitor()
    fit(tmp_path, watch, keep, max_epochs=3, enable_checkpointing=True)
    best = max(record["aopc/agreement"] for record in watch.history if record["step"])
    assert float(keep.best_model_score) == pytest.approx(best)  # type: ignore[arg-type]


def test_validate_and_test_return_it(tmp_path: Path) -> None:
    watch, module = monitor(), Classifier()
    made = trainer(tmp_path, watch)
    for stage in (made.validate, made.test):
        (found,) = stage(module, loaders()[1], verbose=False)
        assert {key: found[key] for key in KEYS} == pytest.approx(
            expected(watch, module, quadrants), abs=1e-6
        )


def test_several_probes_have_one_each(tmp_path: Path) -> None:
    probes = {"val": loaders()[1], "other": torch.rand(12, 3, 16, 16)}
    watch = monitor(dataloader=probes)
    fit(tmp_path, watch, max_epochs=1)
    assert {"aopc/val/agreement", "aopc/other/agreement_sem"} <= set(watch.history[-1])


def test_a_fitted_reference_goes_along(tmp_path: Path) -> None:
    reference = FixedReference.fit(loaders()[0], num_patches=16)
    watch = pickle.loads(pickle.dumps(monitor(reference=reference)))
    module = Classifier()
    fit(tmp_path, watch, module=module)
    last = expected(watch, module, reference)
    assert watch.history[-1]["aopc/agreement"] == pytest.approx(last["aopc/agreement"], abs=1e-9)


FORMS: dict[str, Any] = {
    "classes": lambda x: quadrants(x).argmax(1),
    "classes of few bytes": lambda x: quadrants(x).argmax(1).to(torch.uint8),
    "an array": lambda x: quadrants(x).argmax(1).numpy(),
    "a list": lambda x: quadrants(x).argmax(1).tolist(),
    "scores of an array": lambda x: quadrants(x).numpy().astype(np.float16),
    "impossible classes": lambda x: quadrants(x).where(quadrants(x) > 0.4, -torch.inf),
    "a path": "tests.monitor.test_reference.quadrants",
}


@pytest.mark.parametrize("form", FORMS)
def test_it_may_answer_in_several_forms(tmp_path: Path, form: str) -> None:
    watch, usual = monitor(reference=FORMS[form]), monitor()
    for one in (watch, usual):
        fit(tmp_path, one, limit_train_batches=1, max_epochs=1)
    assert watch.history[-1]["aopc/agreement"] == usual.history[-1]["aopc/agreement"]


def test_a_network_is_a_reference_and_left_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    network = small_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    watch, module = monitor(reference=network), Classifier()
    fit(tmp_path, watch, module=module, limit_train_batches=1, max_epochs=1)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(part.training for part in network.modules())
    assert all(p.requires_grad for p in network.parameters())
    assert "compared with Sequential;" in capsys.readouterr().out
    last = expected(watch, module, network.eval())
    assert watch.history[-1]["aopc/agreement"] == pytest.approx(last["aopc/agreement"], abs=1e-9)


def test_what_it_writes_to_the_images_reaches_nobody(tmp_path: Path) -> None:
    def writes(images: Tensor) -> Tensor:
        scores = quadrants(images)
        images.zero_()
        return scores

    watch, usual = monitor(reference=writes), monitor()
    for one in (watch, usual):
        fit(tmp_path, one, limit_train_batches=1, max_epochs=1)
    assert without_times(watch.history[-1]) == without_times(usual.history[-1])


# Other kinds of input, and further inputs


def by_age(images: Tensor, age: Tensor) -> Tensor:
    return (age[:, 0] > 0).long() + 2 * (images.mean((1, 2, 3)) > 0.5)


def test_further_inputs_go_to_what_takes_them(tmp_path: Path) -> None:
    def item(i: int) -> Any:
        return {"image": IMAGES[i], "age": AGES[i], "label": LABELS[i]}

    found = []
    for reference in (by_age, lambda images: quadrants(images)):
        module = Module(lambda m, x, age: 2000 * quadrants(x) + m.plain(x) + m.age(age))
        record, _ = watched(
            tmp_path, module, item, inputs_fn=lambda batch: batch["age"], reference=reference
        )
        found.append(record["aopc/agreement"])
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "reference",
    [
        lambda ids: (ids == texts.GOOD).any(1).long(),
        lambda input_ids, attention_mask: (input_ids * attention_mask == texts.GOOD).any(1).long(),
    ],
)
def test_texts_of_different_lengths(tmp_path: Path, reference: Any) -> None:
    watch = texts.monitor(reference=reference, on_error="raise")
    texts.fit(tmp_path, watch)
    probe = watch.measurements[""].probe
    assert probe.reference is not None
    assert torch.equal(probe.reference.classes, (probe.images == texts.GOOD).any(1).long())
    assert torch.equal(probe.reference.classes, probe.labels)
    assert -1 <= watch.history[-1]["aopc/agreement"] <= 1


# Resuming


def checkpoint(path: Path, **changes: Any) -> Path:
    fit(path, monitor(**changes), max_epochs=1).save_checkpoint(path / "c.ckpt")
    return path / "c.ckpt"


def test_a_resumed_run_has_the_history_of_an_uninterrupted_one(tmp_path: Path) -> None:
    saved = checkpoint(tmp_path)
    watch, whole = monitor(), monitor()
    keep = ModelCheckpoint(tmp_path, monitor="aopc/agreement", mode="max")
    fit(tmp_path, watch, keep, ckpt_path=saved, enable_checkpointing=True)
    fit(tmp_path, whole)
    steps = [record["step"] for record in whole.history]
    assert [record["step"] for record in watch.history] == steps
    assert all(set(record) >= KEYS for record in watch.history)


def darkest(images: Tensor) -> Tensor:
    return -quadrants(images)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (quadrants, darkest, "changed what the reference predicts. Values"),
        (None, quadrants, r"changed what the reference predicts \(there was none\)"),
        (quadrants, None, r"changed what the reference predicts \(there is none\)"),
    ],
)
def test_another_reference_than_before_is_told(
    tmp_path: Path, before: Any, after: Any, told: str
) -> None:
    saved, watch = checkpoint(tmp_path, reference=before), monitor(reference=after)
    with pytest.warns(UserWarning, match=told):
        fit(tmp_path, watch, ckpt_path=saved)
    assert ("aopc/agreement" in watch.history[-1]) == (after is not None)
    # A key that is wanted for the first time has its value at once.
    again = before is None
    assert [record["step"] for record in watch.history].count(6) == 1 + again


def test_other_images_are_told_once(tmp_path: Path) -> None:
    saved, watch = checkpoint(tmp_path), monitor(num_images=30)
    with pytest.warns(UserWarning, match="changed the images of the probe. Values"):
        fit(tmp_path, watch, ckpt_path=saved)


# What cannot work


class Several(nn.Module):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, : self.columns]


def raises(images: Tensor) -> Tensor:
    raise KeyError("no such layer")


REFUSED: dict[str, tuple[Any, str]] = {
    "raises": (raises, r"reference= raised KeyError: .*no such layer.* on \(16, 3, 16, 16\)"),
    "floats": (lambda x: x.mean((1, 2, 3)), r"gave \(16,\) float32 .*; wanted are scores"),
    "masks": (lambda x: x[:, 0] > 0.5, r"gave \(16, 16, 16\) bool"),
    "truth values": (lambda x: quadrants(x) > 0.5, r"gave \(16, 4\) bool"),
    "one column": (lambda x: quadrants(x)[:, :1], r"gave \(16, 1\) float32"),
    "too few": (lambda x: quadrants(x)[1:], r"gave \(15, 4\) float32 for \(16, 3, 16, 16\)"),
    "NaN": (lambda x: quadrants(x) / 0 * 0, "of which 16 rows hold NaN"),
    "below 0": (lambda x: first_class(x) - 1, "down to -1"),
    "texts": (lambda x: ["cat"] * len(x), "gave a list"),
    "nothing": (lambda x: None, "gave a NoneType"),
    "another device": (lambda x: quadrants(x).to("meta"), "meta"),
    "more classes": (Several(10), "reference= has 10 classes, and the network 4"),
    "fewer classes": (Several(3), "reference= has 3 classes, and the network 4"),
    "a class beyond": (lambda x: 7 * quadrants(x).argmax(1), "class 21, and the network has 4"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_reference_that_cannot_work_stops_before_the_first_step(
    tmp_path: Path, what: str
) -> None:
    reference, message = REFUSED[what]
    with pytest.raises((ValueError, RuntimeError), match=message):
        fit(tmp_path, monitor(reference=reference, on_error="warn"))


def test_one_that_writes_to_the_network_is_found_out(tmp_path: Path) -> None:
    module = Classifier()

    def writes(images: Tensor) -> Tensor:
        next(module.parameters()).data.mul_(1.1)
        return quadrants(images)

    with pytest.raises(RuntimeError, match=r"network\.0\.weight"):
        fit(tmp_path, monitor(reference=writes), module=module)


@pytest.mark.parametrize("reference", [Quadrants(8), 3, FixedReference, nn.Module])
def test_what_cannot_be_asked_is_refused_at_once(reference: Any) -> None:
    with pytest.raises(TypeError, match=r"reference=.* cannot be asked of images: give Fixed"):
        monitor(reference=reference)


def test_a_path_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reference='tests\.nowhere' cannot be imported"):
        monitor(reference="tests.nowhere")


@pytest.mark.parametrize("score", ["value", "segmentation"])
def test_scores_that_know_no_class_of_an_image_are_refused(score: str) -> None:
    with pytest.raises(ValueError, match=f"under score='{score}' there is none: leave it out"):
        monitor(score=score)


def test_several_labels_of_an_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="networks that predict one class of each image"):
        watched(tmp_path, Module(), score="sigmoid", reference=quadrants, on_error="raise")


def test_one_logit_has_two_classes(tmp_path: Path) -> None:
    record, _ = watched(
        tmp_path,
        Module(columns=1),
        score="sigmoid",
        reference=lambda x: quadrants(x)[:, :2],
        on_error="raise",
    )
    assert -1 <= record["aopc/agreement"] <= 1


def test_a_single_class_has_no_agreement_and_that_is_said_once(tmp_path: Path) -> None:
    watch = monitor(reference=first_class)
    with pytest.warns(UserWarning, match="no value") as caught:
        made = fit(tmp_path, watch)
    said = [str(w.message) for w in caught if "aopc/agreement has no value" in str(w.message)]
    assert len(said) == 1
    assert "predicts class 0 of all 40 images" in said[0]
    assert not KEYS & {key for record in watch.history for key in record}
    assert "aopc/lrp" in made.callback_metrics


def test_who_waits_for_a_value_that_never_comes_is_named(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, monitor="aopc/agreement", mode="max")
    with pytest.raises(ValueError, match=r"ModelCheckpoint\(monitor='aopc/agreement'\) waits"):
        fit(tmp_path, monitor(reference=first_class), keep, enable_checkpointing=True)


# The warning sign, in a training whose network turns away from the reference


class Turns(Classifier):
    """Ever more certain, and after a few steps of other classes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, images: Tensor) -> Tensor:
        turned = int(self.steps > 4)
        return (1.0 + 0.4 * self.steps) * quadrants(images).roll(turned, dims=1)

    def on_train_batch_end(self, *args: Any) -> None:
        self.steps += 1

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().forward(batch[0]).sum()


def test_the_warning_sign_is_said_once_and_names_the_maximum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = monitor(every_n_steps=1, at_validation=False, heatmap="gradient_x_input")
    fit(tmp_path, watch, module=Turns())
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning sign" in line]
    assert len(lines) == 1
    assert "aopc/agreement has fallen from its maximum at step 0, 1.000" in lines[0]
    assert watch.history[-1]["aopc/agreement"] < 0.5
