from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from sklearn.metrics import cohen_kappa_score, mutual_info_score
from torch import Tensor

from recipes.label_free_limits.answers import Answers
from recipes.label_free_limits.looks import Look
from recipes.label_free_limits.signals import MAIN, REFERENCES, Seen, signals

PROBE, TEST, CLASSES = 30, 40, 3
NUMBERS = {
    "aopc/lrp": 0.3, "aopc/lrp_gain": 0.1, "aopc/lrp_srg": 0.16, "aopc/random": 0.2,
    "aopc/lrp_survival": 0.4, "aopc/lrp_survival_lerf": 0.9, "aopc/lrp_survival_gap": 0.5,
    "aopc/random_survival": 0.6, "normalized/lrp": 0.7, "normalized/lrp_srg": 0.5,
}  # fmt: skip


def answers(seed: int, count: int) -> Answers:
    generator = torch.Generator().manual_seed(seed)
    return Answers(
        2 * torch.randn(count, CLASSES, generator=generator),
        torch.randn(count, 4, generator=generator),
    )


def classes(seed: int, count: int) -> Tensor:
    return torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def seen() -> Seen:
    look = Look(120, "none", 0, NUMBERS, answers(0, TEST), answers(1, 20), answers(2, 25))
    return Seen(
        look, replace(look, step=60, test=answers(3, TEST)),
        {name: classes(k, PROBE) for k, name in enumerate(REFERENCES, 4)},
        classes(7, PROBE), classes(8, 20), classes(9, 25),
    )  # fmt: skip


def by_name(seen: Seen) -> dict[str, float]:
    return {s.name: s.of(seen) for s in signals(["lrp"], with_normalized=True)}


def test_every_signal_by_hand(seen: Seen) -> None:
    probe = seen.look.test.logits[:PROBE].double().softmax(1)
    predicted = probe.argmax(1)
    known = seen.look.known.logits.double().softmax(1)
    distances = (seen.look.test.features[:PROBE, None] - seen.look.known.features).square().sum(2)
    nearest = seen.known_labels[distances.argmin(1)]
    before = seen.before.test.logits[:PROBE].argmax(1) if seen.before else predicted
    source = seen.look.source
    wrong = int((source.classes != seen.source_labels).sum())
    thresholds = source.probabilities.amax(1).sort().values
    by_hand = {
        **{f"{n}_kappa": cohen_kappa_score(predicted, seen.references[n]) for n in REFERENCES},
        "nn1_mi": mutual_info_score(predicted, nearest),
        "held_out_accuracy": 1 - wrong / 20,
        "atc_confidence": float((probe.amax(1) >= thresholds[wrong]).double().mean()),
        "stability": float((predicted == before).double().mean()),
        "stability_mi": mutual_info_score(predicted, before),
        "confidence": float(probe.amax(1).mean()),
        "confidence_difference": float(probe.amax(1).mean() - known.amax(1).mean()),
        "negative_entropy": float((probe * probe.log()).sum(1).mean()),
        "lrp": 0.3, "lrp_gain": 0.1, "lrp_srg": 0.16, "random": 0.2,
        "lrp_survival": 0.4, "lrp_survival_lerf": 0.9, "lrp_survival_gap": 0.5,
        "random_survival": 0.6, "lrp_normalized": 0.7, "lrp_srg_normalized": 0.5,
        "step": 120.0,
        "probe_accuracy": float((predicted == seen.labels).double().mean()),
    }  # fmt: skip
    found = by_name(seen)
    assert {name: found[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-10)
    # Their values are tested where they live.
    assert set(found) - set(by_hand) == {"atc_entropy", "nuclear_norm", "mano", "cot"}


@pytest.mark.parametrize("name", ["nuclear_norm", "mano", "cot", "confidence", "negative_entropy"])
def test_what_is_made_of_probabilities_rises_with_them(name: str, seen: Seen) -> None:
    surer = replace(seen.look, test=Answers(4 * seen.look.test.logits, seen.look.test.features))
    assert by_name(replace(seen, look=surer))[name] > by_name(seen)[name]


def test_only_the_probe_is_looked_at(seen: Seen) -> None:
    test = seen.look.test
    logits = torch.cat([test.logits[:PROBE], -test.logits[PROBE:]])
    changed = replace(seen, look=replace(seen.look, test=Answers(logits, test.features)))
    assert by_name(changed) == by_name(seen)


def test_the_first_look_has_none_before(seen: Seen) -> None:
    found = by_name(replace(seen, before=None))
    assert {n for n, value in found.items() if math.isnan(value)} == {
        "stability", "stability_mi", "step",
    }  # fmt: skip


def test_names_and_definitions_are_each_ones_own() -> None:
    found = signals(["lrp", "sensitivity_l2"])
    assert len({signal.name for signal in found}) == len(found)
    assert len({signal.definition for signal in found}) == len(found)
    assert set(MAIN) <= {signal.name for signal in found}
    normalized = {s.name for s in signals(["lrp"], True)} - {s.name for s in signals(["lrp"])}
    assert normalized == {"lrp_normalized", "lrp_srg_normalized"}


def test_heatmaps_do_not_take_each_others_numbers(seen: Seen) -> None:
    """Signals are made in loops, where a late look at the loop's variable would show."""
    other = {k.replace("lrp", "other"): 2 * v for k, v in NUMBERS.items() if "lrp" in k}
    both = replace(seen, look=replace(seen.look, numbers=NUMBERS | other))
    found: dict[str, Callable[[Seen], float]] = {s.name: s.of for s in signals(["lrp", "other"])}
    assert (found["lrp"](both), found["other"](both)) == (0.3, 0.6)
    assert (found["lrp_gain"](both), found["other_gain"](both)) == (0.1, 0.2)
