"""AOPC of texts: words as vectors of zeros, as a mask token, or left out, against a plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, area_over_perturbation_curve, estimate_aopc
from aopc_monitor.metrics import SensitivityN, SymmetricRelevanceGain, aopc_bounds, sensitivity_n
from aopc_monitor.perturbation import MaskToken, Replacement
from tests.texts import END, PAD, VOCABULARY, TextCNN, TextLSTM, classifier, texts

MASK_ID = 3
STEPS = 4
REPLACEMENTS: tuple[str | Replacement, ...] = ("zero", "left_out", MaskToken(MASK_ID))


def asked(model: nn.Module, ids: Tensor, mask: Tensor, is_zero: Tensor | None = None) -> Tensor:
    """Probabilities of one text, with the vectors of some of its tokens at zero."""
    if is_zero is None:
        answer = model(input_ids=ids[None], attention_mask=mask[None])
    elif isinstance(model, (TextCNN, TextLSTM)):
        answer = model.of_vectors(model.table(ids[None]) * ~is_zero[None, :, None], mask[None])
    else:
        vectors = model.get_input_embeddings()(ids[None]) * ~is_zero[None, :, None]
        answer = model(inputs_embeds=vectors, attention_mask=mask[None])
    logits: Tensor = getattr(answer, "logits", answer)
    return logits.softmax(dim=1)[0]


def by_loop(
    model: nn.Module,
    batch: dict[str, Any],
    heatmaps: Tensor,
    order: str,
    replacement: object,
    seed: int,
) -> Tensor:
    """(N, L+1) curves, each x^(k) made by hand, one text after the other."""
    ids, masks, words = batch["input_ids"], batch["attention_mask"], batch["word_ids"]
    counts = [1 + max(word for word in row if word is not None) for row in words]
    keys = torch.rand(
        (len(ids), max(counts)),
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    curves = torch.zeros(len(ids), STEPS + 1, dtype=torch.float64)
    for n, row in enumerate(words):
        means = [
            float(heatmaps[n][[t for t, word in enumerate(row) if word == number]].mean())
            for number in range(counts[n])
        ]
        sign = {"morf": -1, "lerf": 1, "random": 0}[order]
        ranked = sorted(range(counts[n]), key=lambda r: (sign * means[r], float(keys[n, r])))
        target = asked(model, ids[n], masks[n]).argmax()
        for k in range(STEPS + 1):
            gone = ranked[: int(k / STEPS * counts[n] + 0.5)]
            is_gone = torch.tensor([word in gone for word in row])
            if replacement == "zero":
                found = asked(model, ids[n], masks[n], is_gone)
            elif replacement == "left_out":
                found = asked(model, ids[n][~is_gone], masks[n][~is_gone])
            else:
                found = asked(model, ids[n].masked_fill(is_gone, MASK_ID), masks[n])
            curves[n, k] = found[target]
    return curves


@pytest.mark.parametrize("order", ["morf", "lerf", "random"])
@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=["zero", "left_out", "mask"])
@pytest.mark.parametrize("name", ["CNN", "LSTM", "Bert"])
def test_the_fast_path_is_a_plain_loop(name: str, replacement: Any, order: Any) -> None:
    model, batch = classifier(name), texts()
    heatmaps = torch.randn(3, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        expected = by_loop(model, batch, heatmaps, order, replacement, seed=11)
    found = area_over_perturbation_curve(
        model,
        batch,
        heatmaps,
        steps=STEPS,
        order=order,
        replacement=replacement,
        generator=torch.Generator().manual_seed(11),
    )
    torch.testing.assert_close(found.curves, expected, rtol=0, atol=1e-6)
    areas = (expected[:, :1] - expected).sum(dim=1) / (STEPS + 1)
    torch.testing.assert_close(found.per_image, areas, rtol=0, atol=1e-6)
    assert found.forwards == 3 * (1 + STEPS)


class BagOfWords(nn.Module):
    """The sum of word vectors, and one class score each: linear in the words."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(VOCABULARY, 4, mode="sum")
        self.head = nn.Linear(4, 2, bias=False)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.bag(ids))  # type: ignore[no-any-return]


@pytest.mark.parametrize("replacement", ["zero", "left_out"])
def test_a_linear_network_has_its_closed_form(replacement: str) -> None:
    """Each word takes its own score with it, whatever else is there."""
    torch.manual_seed(0)
    model, ids = BagOfWords(), torch.randint(0, VOCABULARY, (4, 6))
    scores = model.head(model.bag.weight[ids]).detach()
    target = scores.sum(dim=1).argmax(dim=1)
    of_words = scores.gather(2, target[:, None, None].expand(-1, 6, 1))[..., 0]
    found = area_over_perturbation_curve(
        model, ids, of_words, steps=5, replacement=replacement, score="logit"
    )
    gone = of_words.sort(dim=1, descending=True).values[:, :5].cumsum(dim=1)
    torch.testing.assert_close(found.per_image, gone.sum(dim=1) / 6)


@pytest.mark.parametrize("name", ["CNN", "LSTM", "Bert", "ModernBert"])
@pytest.mark.parametrize("replacement", REPLACEMENTS, ids=["zero", "left_out", "mask"])
def test_company_and_padding_do_not_matter(name: str, replacement: Any) -> None:
    model, batch = classifier(name), texts()
    together = AOPC("lrp", steps=3, replacement=replacement)
    together.update(model, batch)
    alone = AOPC("lrp", steps=3, replacement=replacement)
    for n, length in enumerate((9, 6, 4)):
        alone.update(
            model,
            {
                "input_ids": batch["input_ids"][n : n + 1, :length],
                "attention_mask": batch["attention_mask"][n : n + 1, :length],
                "word_ids": [batch["word_ids"][n][:length]],
            },
        )
    torch.testing.assert_close(together.compute(), alone.compute(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(together.curve(), alone.curve(), rtol=1e-6, atol=1e-9)


def test_special_tokens_and_padding_are_never_perturbed() -> None:
    seen: list[Tensor] = []
    model, batch = classifier("CNN"), texts()
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append({**kwargs, "ids": args}["input_ids"].clone()),
        with_kwargs=True,
    )
    heatmaps = torch.rand(3, 9)
    area_over_perturbation_curve(
        model, batch, heatmaps, steps=4, replacement=MaskToken(MASK_ID), step_is="share"
    )
    last = seen[-1].view(3, 4, 9)[:, -1]  # the last step of each text
    is_word = torch.tensor([[w is not None for w in row] for row in batch["word_ids"]])
    assert torch.equal(last, batch["input_ids"].masked_fill(is_word, MASK_ID))


def test_the_plain_tensor_of_ids_is_the_mapping_without_masks() -> None:
    model, ids = classifier("CNN"), texts((6, 6))["input_ids"]
    heatmaps = torch.rand(2, 6)
    one = area_over_perturbation_curve(model, ids, heatmaps, steps=6)
    other = area_over_perturbation_curve(model, {"input_ids": ids}, heatmaps, steps=6)
    torch.testing.assert_close(one.per_image, other.per_image)


def test_regions_of_your_own_are_the_words() -> None:
    model, batch = classifier("CNN"), texts()
    words = torch.tensor([[-1 if w is None else w for w in row] for row in batch["word_ids"]])
    heatmaps = torch.rand(3, 9)
    without = {name: batch[name] for name in ("input_ids", "attention_mask")}
    one = area_over_perturbation_curve(model, batch, heatmaps, steps=3)
    other = area_over_perturbation_curve(model, without, heatmaps, steps=3, regions=words)
    torch.testing.assert_close(one.per_image, other.per_image)


def test_what_measures_images_measures_texts() -> None:
    model, batch = classifier("LSTM"), texts()
    gain = SymmetricRelevanceGain("gradient_x_input", steps=3)
    gain.update(model, batch)
    assert gain.compute() > 0
    estimate = estimate_aopc(model, [batch, texts((8, 8), seed=1)], "lrp", steps=4)
    assert estimate.num_images == 5
    assert estimate.gain.mean > 0
    found = area_over_perturbation_curve(
        model, batch, torch.rand(3, 9), steps=6, step_is="share", sampled_steps=2
    )
    assert found.forwards == 3 * 3
    bounds = aopc_bounds(model, batch, steps=3)
    everything = area_over_perturbation_curve(model, batch, torch.rand(3, 9), steps=3)
    assert (bounds.lower <= everything.per_image + 1e-9).all()
    assert (everything.per_image <= bounds.upper + 1e-9).all()


def test_a_text_of_one_word() -> None:
    model, batch = classifier("CNN"), texts((2, 9))
    found = area_over_perturbation_curve(model, batch, torch.rand(2, 9), steps=4)
    assert not found.curves.isnan().any()
    # Half of a word is the whole word.
    assert len(found.curves[0].unique()) == 2


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"input_ids": torch.rand(2, 3, 8, 8)}, {}, r"input_ids is \(2, 3, 8, 8\) float32"),
    (
        {"attention_mask": torch.zeros(3, 9).long()},
        {},
        r"text 0 \(and 2 more\) has no word that may",
    ),
    ({"word_ids": [[None] * 9] * 3}, {}, r"text 0 \(and 2 more\) has no word that may"),
    ({}, {"steps": 5, "step_is": "region"}, "5 is more than the 2 .* of the shortest .*share"),
    ({}, {"data_range": (0.0, 1.0)}, "data_range=.*texts are tokens, which have no range"),
    ({}, {"replacement": "mean"}, "Mean.*these are texts: choose one of zero, left_out"),
    ({}, {"replacement": "uniform"}, "data_range is missing.*texts have none, and take other"),
    ({}, {"replacement": "mask"}, r"MaskToken\(id\)"),
    ({}, {"region_size": 2}, "region_size"),
    (
        {},
        {"replacement": MaskToken(VOCABULARY)},
        rf"failed on token ids up to {VOCABULARY} .*replacement=MaskToken\(id\), must be below",
    ),
]


@pytest.mark.parametrize(("changes", "choices", "message"), BAD)
def test_bad_input_is_one_clear_sentence(
    changes: dict[str, Any], choices: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        area_over_perturbation_curve(
            classifier("CNN"), texts() | changes, torch.rand(3, 9), **{"steps": 2, **choices}
        )


def test_ids_where_images_are_wanted() -> None:
    images = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises((TypeError, ValueError, RuntimeError), match="forward was given"):
        area_over_perturbation_curve(images, texts()["input_ids"], torch.rand(3, 9), steps=2)
    assert PAD < END


def test_sensitivity_n_removes_words() -> None:
    """Of a linear network the relevance of words is what removing them takes away."""
    torch.manual_seed(0)
    model, ids = BagOfWords(), torch.randint(0, VOCABULARY, (4, 6))
    words = torch.tensor([[0, 0, 1, 2, 3, -1]]).expand(4, -1)
    batch = {"input_ids": ids, "word_ids": words}
    target = model(ids).argmax(dim=1)
    scores = model.head(model.bag.weight[ids]).detach()
    of_tokens = scores.gather(2, target[:, None, None].expand(-1, 6, 1))[..., 0]
    found = sensitivity_n(model, batch, of_tokens, n=[1, 2, 3], subsets=20)
    assert (found.correlations > 1 - 1e-6).all()
    metric = SensitivityN("gradient_x_input", n=2, subsets=20)
    metric.update(model, batch)
    assert metric.compute() > 1 - 1e-6
    with pytest.raises(ValueError, match="removed words become vectors of zeros"):
        sensitivity_n(model, batch, of_tokens, n=2, baseline=1.0)
