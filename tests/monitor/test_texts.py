"""The monitor on texts in real trainings: mappings with words, ids alone, different lengths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from aopc_monitor import AOPCMonitor, area_over_perturbation_curve, estimate_aopc
from aopc_monitor.heatmaps import get
from aopc_monitor.monitor import collect_probe
from aopc_monitor.monitor.batch_reading import BatchReading
from aopc_monitor.monitor.errors import ConfigurationError
from aopc_monitor.utilities.batches import BatchFormError
from tests.modules import trainer
from tests.texts import PAD, START, VOCABULARY, TextCNN

GOOD, BAD = 7, 8


class Reviews(torch.utils.data.Dataset[dict[str, Any]]):
    """Texts of 4 tokens and more, two a word; class 1 has a good word, class 0 a bad one."""

    def __init__(self, count: int = 24, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.vocabulary = [f"word{i}" for i in range(VOCABULARY)]
        self.vocabulary[GOOD], self.vocabulary[BAD] = "good", "bad"
        self.items: list[dict[str, Any]] = []
        for i in range(count):
            ids = torch.randint(10, VOCABULARY, (4 + i // 6,), generator=generator)
            ids[0], ids[2] = START, GOOD if i % 2 else BAD
            self.items.append({"input_ids": ids.tolist(), "label": i % 2})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def collated(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Padded to the longest of the batch, as collators of tokenizers do it."""
    longest = max(len(item["input_ids"]) for item in items)
    rows = [item["input_ids"] for item in items]
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    places = torch.arange(longest)
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    # The first token belongs to no word; then two of them are one.
    words = torch.where((places > 0) & (places < lengths), (places - 1) // 2, -1)
    return {
        "input_ids": ids,
        "attention_mask": (places < lengths).long(),
        "word_ids": words,
        "labels": torch.tensor([item["label"] for item in items]),
    }


class TextModule(pl.LightningModule):
    """Automatic optimization of a text CNN."""

    classes = ("negative", "positive", "none")

    def __init__(self) -> None:
        super().__init__()
        self.network = TextCNN()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        outputs: Tensor = self.network(input_ids, attention_mask)
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs = self(batch["input_ids"], batch["attention_mask"])
        return F.cross_entropy(outputs, batch["labels"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        outputs = self(batch["input_ids"], batch["attention_mask"])
        self.log("accuracy/val", (outputs.argmax(1) == batch["labels"]).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def loaders(batch_size: int = 8) -> tuple[DataLoader[Any], DataLoader[Any]]:
    return (
        DataLoader(Reviews(), batch_size=batch_size, shuffle=True, collate_fn=collated),
        DataLoader(Reviews(40, seed=1), batch_size=batch_size, collate_fn=collated),
    )


def monitor(**changes: Any) -> AOPCMonitor:
    settings: dict[str, Any] = {"num_images": 40, "sampled_steps": None, "on_error": "raise"}
    return AOPCMonitor(**(settings | changes))


def fit(path: Path, *callbacks: Any, **settings: Any) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    ckpt_path = settings.pop("ckpt_path", None)
    made = trainer(path, *callbacks, **settings)
    made.fit(TextModule(), *loaders(), ckpt_path=ckpt_path)
    return made


def test_a_training_on_texts_is_watched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aopc_monitor")
    watch = monitor()
    fit(tmp_path, watch, max_epochs=6)
    assert [record["step"] for record in watch.history] == [0, 3, 6, 9, 12, 15, 18]
    last = watch.history[-1]
    assert last["aopc/accuracy"] > 0.9
    assert last["aopc/lrp_gain"] > 0.05
    (plan,) = (r.message for r in caplog.records if "an evaluation" in r.message)
    assert "40 texts of 10 tokens, words (2 to 5 each), 5 steps" in plan
    assert "words by word_ids" in plan
    assert "labels from batch['labels']" in plan


def test_values_are_those_of_the_function_on_each_length(tmp_path: Path) -> None:
    watch = monitor(steps=4, replacement="left_out")
    made = fit(tmp_path, watch, max_epochs=1)
    module: Any = made.lightning_module
    probe: Any = watch.measurements[""].probe
    assert probe.lengths is not None
    areas = []
    for item, length in enumerate(probe.lengths.tolist()):
        ids = probe.images[item : item + 1, :length]
        batch = {
            "input_ids": ids,
            "attention_mask": probe.inputs["attention_mask"][item : item + 1, :length],
            "word_ids": probe.words[item : item + 1, :length],
        }
        target = module(ids, batch["attention_mask"]).argmax(dim=1)
        heatmap = heatmap_of(module, batch, target)
        result = area_over_perturbation_curve(
            module, batch, heatmap, steps=4, replacement="left_out"
        )
        areas.append(float(result.per_image))
    assert watch.history[-1]["aopc/lrp"] == pytest.approx(sum(areas) / len(areas), abs=1e-6)


def heatmap_of(module: Any, batch: Any, target: Tensor | None) -> Tensor:
    found: Tensor = get("lrp")(module, batch, target)
    return found


def test_figures_tell_words_by_the_vocabulary_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    pages: list[Any] = []
    from aopc_monitor.monitor.dashboard import dashboard

    hand_over = dashboard.hand_over

    def spy(made: Any, shown: Mapping[str, Any], *rest: Any) -> Any:
        pages.append(shown["aopc/figures/texts"])
        return hand_over(made, shown, *rest)

    monkeypatch.setattr(dashboard, "hand_over", spy)
    watch = monitor(figures=True)
    fit(tmp_path, watch, max_epochs=6)
    assert len(list((tmp_path / "aopc_figures").glob("*heatmaps*.png"))) == 7
    last = pages[-1]
    # Two tokens are a word, the first of them tells.
    for word in ("good", "bad"):
        assert f" {word}" in last.markdown
    assert "**positive, " in last.markdown
    assert "**▲" in last.markdown
    assert "background:rgba" in last.html
    assert watch.measurements[""].counts_shares


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    first, second = monitor(), monitor()
    made = fit(tmp_path, first, max_epochs=1)
    made.save_checkpoint(tmp_path / "one.ckpt")
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert len(str(content["callbacks"])) < 5_000
    fit(tmp_path, second, ckpt_path=tmp_path / "one.ckpt")
    assert second.history[:2] == first.history
    assert [record["step"] for record in second.history] == [0, 3, 6]


def test_other_words_of_the_same_texts_are_told_after_a_resume(tmp_path: Path) -> None:
    made = fit(tmp_path, monitor(), max_epochs=1)
    made.save_checkpoint(tmp_path / "one.ckpt")

    def by_token(batch: Any) -> Any:
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    with pytest.warns(UserWarning, match="the images of the probe"):
        fit(tmp_path, monitor(images_fn=by_token), ckpt_path=tmp_path / "one.ckpt")


def test_ids_alone_are_texts_whose_tokens_are_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aopc_monitor")
    ids = torch.randint(10, VOCABULARY, (12, 9), generator=torch.Generator().manual_seed(0))
    watch = monitor(dataloader=ids)
    fit(tmp_path, watch, max_epochs=1)
    assert watch.measurements[""].probe.words is None
    assert watch.measurements[""].protocol.steps == 4
    assert any("12 texts of 9 tokens" in record.message for record in caplog.records)


def test_one_batch_of_a_tokenizer_is_a_probe(tmp_path: Path) -> None:
    batch = collated(Reviews(12).items)
    watch = monitor(dataloader=batch)
    fit(tmp_path, watch, max_epochs=1)
    assert list(watch.measurements) == [""]
    assert torch.equal(watch.measurements[""].probe.images, batch["input_ids"])


def test_texts_of_one_length_stand_together_and_padding_is_cut() -> None:
    probe = collect_probe(loaders(batch_size=5)[1], 40)
    assert probe.lengths is not None
    seen = 0
    blocks: Any = list(probe.blocks())
    for block in blocks:
        (length,) = set(block.lengths.tolist())
        assert block.images.shape[1] == block.words.shape[1] == length
        assert block.inputs["attention_mask"].shape == block.images.shape
        seen += len(block.images)
    assert seen == 40
    shares = [[b.images.tolist() for b in probe.blocks(rank, 2)] for rank in (0, 1)]
    assert sum(map(len, shares)) == len(list(probe.blocks()))


def test_texts_without_a_word_are_left_out_and_told() -> None:
    batch = collated(Reviews(8).items)
    batch["word_ids"][2] = -1
    probe = collect_probe([batch], 8)
    assert len(probe.images) == 7
    assert "left out, without a word that may be perturbed: 1 texts" in probe.notes
    batch["word_ids"][:] = -1
    with pytest.raises(ValueError, match="all 8 texts of the probe are without a word"):
        collect_probe([batch], 8)


def test_masks_that_do_not_fit_are_named() -> None:
    batch = collated(Reviews(8).items)
    batch["attention_mask"] = batch["attention_mask"][:, 1:]
    with pytest.raises(BatchFormError, match="attention_mask has shape"):
        collect_probe([batch], 8)
    with pytest.raises(BatchFormError, match=r"input_ids is .* float32; wanted are token ids"):
        collect_probe([{"input_ids": torch.rand(2, 3)}], 8)


def test_a_mapping_before_labels_and_one_by_images_fn_are_texts() -> None:
    batch = collated(Reviews(8).items)
    labels = batch.pop("labels")
    probe = collect_probe([(batch, labels)], 8)
    assert torch.equal(probe.labels, labels)
    reading = BatchReading(images_fn=lambda batch: batch["text"])
    assert collect_probe([{"text": batch}], 8, reading=reading).words is not None


def test_whole_numbers_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    pixels = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(ConfigurationError, match="uint8, not floating point"):
        fit(tmp_path, monitor(dataloader=pixels))


def test_ids_alone_of_different_lengths_are_perturbed_by_shares(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aopc_monitor")
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(3, VOCABULARY, (4, width), generator=generator) for width in (9, 3)]
    watch = monitor(steps=5, dataloader=batches, num_images=20)
    made = fit(tmp_path, watch, max_epochs=1)
    areas = []
    for ids in batches:
        heatmap = heatmap_of(made.lightning_module, ids, None)
        result = area_over_perturbation_curve(
            made.lightning_module, ids, heatmap, steps=5, step_is="share"
        )
        areas += result.per_image.tolist()
    assert watch.history[-1]["aopc/lrp"] == pytest.approx(sum(areas) / len(areas), abs=1e-6)
    (plan,) = (r.message for r in caplog.records if "an evaluation" in r.message)
    assert "8 texts of 9 tokens, words (3 to 9 each), 5 steps" in plan
    assert "no more than 8 texts, where num_images=20" in plan


def test_a_mask_after_the_ids_is_not_left_out_in_silence() -> None:
    ids, mask = torch.tensor([[5, 3, 0], [4, 3, 2]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    labels = torch.tensor([0, 1])
    with pytest.raises(BatchFormError, match=r"batch\[1\] what looks like their attention mask"):
        collect_probe([(ids, mask, labels)], 2)
    with pytest.raises(BatchFormError, match=r"batch\[1\] what looks like their attention mask"):
        estimate_aopc(TextCNN(), [(ids, mask, labels)], "gradient_x_input", steps=2)
    reading = BatchReading(
        images_fn=lambda batch: {"input_ids": batch[0], "attention_mask": batch[1]},
        labels_fn=lambda batch: batch[2],
    )
    probe = collect_probe([(ids, mask, labels)], 2, reading=reading)
    assert probe.words is not None
    assert probe.words.tolist() == [[0, 1, -1], [0, 1, 2]]
    assert collect_probe([(ids, labels)], 2).labels is not None
