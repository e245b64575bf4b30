"""Heatmaps of texts: those of the word vectors that a network looks up for its ids."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aopc_monitor import AOPC, heatmaps
from aopc_monitor.heatmaps import LRPEpsilon, Occlusion, RandomOrder
from aopc_monitor.network.embedded_network import EmbeddedNetwork
from tests.texts import TRANSFORMERS, TextCNN, TextLSTM, classifier, texts

TARGET = torch.tensor([0, 1, 2])
# What is added to word vectors, and takes relevance as biases do.
ADDED = ("bias", "position", "wpe", "token_type", "rel_embeddings")
NOT_FOR_TEXTS = ("deep_taylor", "lrp_epsilon_gamma_box")


def without_constants(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        if any(part in name.split(".")[-1] or part in name for part in ADDED):
            nn.init.zeros_(parameter)
    return model


def outputs_of(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    answer = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    outputs: Tensor = getattr(answer, "logits", answer)
    return outputs.detach()


def scores_of_vectors(model: nn.Module, vectors: Tensor, mask: Tensor) -> Tensor:
    """(N,) scores of the target classes for word vectors (N, T, D)."""
    if isinstance(model, (TextCNN, TextLSTM)):
        outputs = model.of_vectors(vectors, mask)
    else:
        outputs = model(inputs_embeds=vectors, attention_mask=mask).logits
    return outputs.gather(1, TARGET[:, None])[:, 0]


def vectors_of(model: Any, ids: Tensor) -> Tensor:
    table = model.table if hasattr(model, "table") else model.get_input_embeddings()
    found: Tensor = table(ids).detach()
    return found


@pytest.mark.parametrize("name", ["CNN", "LSTM", *TRANSFORMERS])
def test_lrp_sums_to_the_score(name: str) -> None:
    model, batch = without_constants(classifier(name)), texts()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*has no rule for.*")
        relevance = LRPEpsilon(epsilon=1e-9)(model, batch, TARGET)
    assert relevance.shape == (3, 9)
    scores = outputs_of(model, batch).gather(1, TARGET[:, None])[:, 0]
    # Llama and DeBERTa compute parts of every forward in float32.
    torch.testing.assert_close(relevance.sum(dim=1), scores, rtol=1e-6, atol=1e-6)
    if name != "LSTM":  # which reads on into the padding, that its last state does not come from
        assert not relevance[batch["attention_mask"] == 0].any()


@pytest.mark.parametrize("name", ["CNN", "LSTM", "Bert"])
def test_gradient_times_input_is_that_of_the_vectors(name: str) -> None:
    model, batch = classifier(name), texts()
    vectors = vectors_of(model, batch["input_ids"]).requires_grad_()
    scores = scores_of_vectors(model, vectors, batch["attention_mask"])
    (gradient,) = torch.autograd.grad(scores.sum(), vectors)
    found = heatmaps.get("gradient_x_input")(model, batch, TARGET)
    torch.testing.assert_close(found, (gradient * vectors).sum(dim=2).detach())
    found = heatmaps.get("sensitivity_l2")(model, batch, TARGET)
    torch.testing.assert_close(found, gradient.norm(dim=2))


def test_integrated_gradients_sum_to_the_difference_from_vectors_of_zero() -> None:
    model, batch = classifier("LSTM"), texts()
    vectors, mask = vectors_of(model, batch["input_ids"]), batch["attention_mask"]
    difference = scores_of_vectors(model, vectors, mask) - scores_of_vectors(
        model, torch.zeros_like(vectors), mask
    )
    found = heatmaps.get("integrated_gradients", steps=64)(model, batch, TARGET)
    torch.testing.assert_close(found.sum(dim=1), difference.detach(), rtol=1e-5, atol=1e-5)


def test_occlusion_takes_one_word_vector_after_the_other() -> None:
    model, batch = classifier("Bert"), texts()
    vectors, mask = vectors_of(model, batch["input_ids"]), batch["attention_mask"]
    found = Occlusion()(model, batch, TARGET)
    clean = scores_of_vectors(model, vectors, mask).detach()
    for t in range(9):
        without = vectors.clone()
        without[:, t] = 0
        drop = clean - scores_of_vectors(model, without, mask).detach()
        torch.testing.assert_close(found[:, t], drop)


@pytest.mark.parametrize("name", sorted(set(heatmaps.names()) - {*NOT_FOR_TEXTS, "random"}))
def test_every_heatmap_of_a_text_network(name: str) -> None:
    """Each text has the heatmap that it has alone."""
    model, batch = classifier("CNN").float(), texts()
    together = heatmaps.get(name)(model, batch, TARGET)
    assert together.shape == (3, 9)
    assert together.isfinite().all()
    assert (together.amax(dim=1) > together.amin(dim=1)).all()
    for n in range(3):
        alone = {key: batch[key][n : n + 1] for key in ("input_ids", "attention_mask")}
        found = heatmaps.get(name)(model, alone, TARGET[n : n + 1])
        torch.testing.assert_close(found, together[n : n + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NOT_FOR_TEXTS)
def test_heatmaps_that_need_a_data_range_say_so(name: str) -> None:
    with pytest.raises(ValueError, match="data_range is missing"):
        heatmaps.get(name)(classifier("CNN"), texts(), TARGET)


@pytest.mark.parametrize("name", ["CNN", "LSTM", "Bert", "ModernBert"])
def test_check_tells_of_texts(name: str) -> None:
    report = heatmaps.check(classifier(name), texts(), "lrp")
    assert report.is_fine, report.problems
    assert report.unit == "tokens"
    assert heatmaps.check(classifier(name), texts(), "occlusion").is_fine
    assert heatmaps.check(classifier(name), texts()["input_ids"], "random").is_fine


def test_the_random_order_of_a_text_stays_while_a_network_trains() -> None:
    ids = texts()["input_ids"]
    first = RandomOrder()(classifier("CNN"), ids)
    assert first.shape == (3, 9)
    assert torch.equal(first, RandomOrder()(classifier("LSTM"), ids))


def test_a_function_of_your_own_sees_vectors_and_may_ask_for_the_ids() -> None:
    seen: list[Any] = []

    def length(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        assert isinstance(model, EmbeddedNetwork)
        seen.append((images.shape, model.ids.tolist()))
        return images.norm(dim=1)

    model, batch = classifier("CNN"), texts()
    metric = AOPC(length, steps=2)
    metric.update(model, batch)
    # One at a time: nothing tells which texts an unknown function asks for.
    assert seen == [((1, 16, 9), [row]) for row in batch["input_ids"].tolist()]


def test_predictions_are_explained_if_nothing_else_is_asked_for() -> None:
    model, batch = classifier("Bert"), texts()
    predicted = outputs_of(model, batch).argmax(dim=1)
    found = LRPEpsilon()(model, batch)
    torch.testing.assert_close(found, LRPEpsilon()(model, batch, predicted))


def test_the_network_is_left_as_it_was() -> None:
    model, batch = classifier("Bert").train(), texts()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [(m, m.training, dict(m._forward_hooks), m.forward) for m in model.modules()]
    for name in ("lrp", "integrated_gradients", "occlusion"):
        heatmaps.get(name)(model, batch, TARGET)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for module, training, hooks, forward in modules:
        assert module.training == training
        assert dict(module._forward_hooks) == hooks
        assert module.forward == forward
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
