from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aopc_monitor import area_over_perturbation_curve, heatmaps
from aopc_monitor.metrics import cohen_kappa, cohen_kappa_standard_error, survival
from aopc_monitor.metrics.evaluation import Evaluation, evaluate, plan
from aopc_monitor.metrics.reference_classes import ReferenceClasses
from aopc_monitor.perturbation.protocol import PerturbationProtocol
from aopc_monitor.utilities.randomness import generator_for
from tests.modules import small_network

PROTOCOL = PerturbationProtocol(region_size=4, steps=6, data_range=(0.0, 1.0))
IMAGES = torch.rand(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NAMED = heatmaps.named_heatmaps(["lrp", "sensitivity_l2"])


def test_values_are_those_of_the_function() -> None:
    torch.manual_seed(0)
    model = small_network().eval()
    found = evaluate(model, IMAGES, None, NAMED, PROTOCOL, seed=3)
    areas = {}
    for name, order in (("lrp", "morf"), ("sensitivity_l2", "morf"), ("random", "random")):
        areas[name] = area_over_perturbation_curve(
            model, IMAGES, heatmaps.get(name)(model, IMAGES, model(IMAGES).argmax(1)),
            region_size=4, steps=6, data_range=(0.0, 1.0), order=order,  # type: ignore[arg-type]
            generator=generator_for(IMAGES, 3),
        )  # fmt: skip
        assert found.mean(name) == pytest.approx(float(areas[name].mean), abs=1e-9)
        assert found.sem(name) == pytest.approx(float(areas[name].sem), abs=1e-9)
        torch.testing.assert_close(found.curve(f"{name}_curve"), areas[name].curve)
    gain = areas["lrp"].per_image - areas["random"].per_image
    assert found.mean("lrp_gain") == pytest.approx(float(gain.mean()), abs=1e-9)
    assert found.sem("lrp_gain") == pytest.approx(float(gain.std() / 10**0.5), abs=1e-9)
    with torch.no_grad():
        confidence = model(IMAGES).softmax(1).max(1).values.mean()
    assert found.mean("confidence") == pytest.approx(float(confidence), abs=1e-6)
    assert found.forwards == 10 + 3 * 10 * 6
    assert "accuracy" not in found.summary()


def test_accuracy_only_with_labels() -> None:
    model = small_network().eval()
    labels = model(IMAGES).argmax(1)
    labels[:5] = (labels[:5] + 1) % 4
    assert evaluate(model, IMAGES, labels, NAMED, PROTOCOL, 0).mean("accuracy") == 0.5


@pytest.mark.parametrize("mark", [-1, -100, 4, 255])
def test_accuracy_is_over_the_images_that_have_a_label(mark: int) -> None:
    model = small_network().eval()
    labels = model(IMAGES).argmax(1)
    labels[:2] = (labels[:2] + 1) % 4
    labels[5:] = mark
    found = evaluate(model, IMAGES, labels, NAMED, PROTOCOL, 0)
    assert found.mean("accuracy") == pytest.approx(0.6)
    assert found.num_images == 10
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    assert found.sem("accuracy") == pytest.approx(float(expected.std() / 5**0.5))
    labels[1:] = mark
    assert "accuracy_sem" not in evaluate(model, IMAGES, labels, NAMED, PROTOCOL, 0).summary()
    labels[:] = mark
    nobody = evaluate(model, IMAGES, labels, NAMED, PROTOCOL, 0).summary()
    assert not {"accuracy", "accuracy_sem"} & set(nobody)
    assert "lrp_sem" in nobody


def test_parts_add_up_and_travel_as_a_vector() -> None:
    values = {"a": torch.rand(9), "a_curve": torch.rand(9, 4)}
    whole = Evaluation.of(values, 90)
    parts = [
        Evaluation.of({name: value[part] for name, value in values.items()}, forwards)
        for part, forwards in ((slice(0, 4), 40), (slice(4, 9), 50))
    ]
    nobody = parts[0].emptied()
    total = nobody.with_vector(sum(p.as_vector() for p in [*parts, nobody]))  # type: ignore[arg-type]
    for evaluation in (parts[0] + parts[1], total):
        assert evaluation.num_images == 9
        assert evaluation.forwards == 90
        assert evaluation.summary() == pytest.approx(whole.summary())
        torch.testing.assert_close(evaluation.curve("a_curve"), values["a_curve"].double().mean(0))
    sem = values["a"].double().std() / 3
    assert whole.sem("a") == pytest.approx(float(sem))


def test_single_image_has_no_standard_error() -> None:
    assert "a_sem" not in Evaluation.of({"a": torch.rand(1)}, 1).summary()


def test_least_relevant_first_is_measured_and_changes_nothing_else() -> None:
    torch.manual_seed(0)
    model = small_network().eval()
    without = evaluate(model, IMAGES, None, NAMED, PROTOCOL, seed=3)
    found = evaluate(model, IMAGES, None, NAMED, PROTOCOL, seed=3, lerf=True)
    assert all(torch.equal(found.sums[name], sums) for name, sums in without.sums.items())
    assert found.forwards == 10 + 5 * 10 * 6
    kinds = ("lerf", "srg", "lerf_curve", "survival", "survival_lerf", "survival_gap")
    new = {f"{name}_{kind}" for name in NAMED for kind in kinds}
    assert set(found.sums) - set(without.sums) == new | {"random_survival"}
    areas = {
        order: area_over_perturbation_curve(
            model, IMAGES, heatmaps.get("sensitivity_l2")(model, IMAGES, model(IMAGES).argmax(1)),
            region_size=4, steps=6, data_range=(0.0, 1.0), order=order,  # type: ignore[arg-type]
            generator=generator_for(IMAGES, 3),
        )
        for order in ("morf", "lerf")
    }  # fmt: skip
    gain = areas["morf"].per_image - areas["lerf"].per_image
    expected = {"lerf": areas["lerf"].per_image, "srg": gain}
    for kind, values in expected.items():
        name = f"sensitivity_l2_{kind}"
        assert found.mean(name) == pytest.approx(float(values.mean()), abs=1e-9)
        assert found.sem(name) == pytest.approx(float(values.std() / 10**0.5), abs=1e-9)
    curve = found.curve("sensitivity_l2_lerf_curve")
    torch.testing.assert_close(curve, areas["lerf"].curve)


def test_survival_is_that_of_the_function_and_needs_no_forward() -> None:
    torch.manual_seed(0)
    model = small_network().eval()
    found = evaluate(model, IMAGES, None, NAMED, PROTOCOL, seed=3, lerf=True)
    assert found.forwards == 10 + 5 * 10 * 6
    expected = survival(
        model, IMAGES, heatmaps.get("sensitivity_l2")(model, IMAGES, model(IMAGES).argmax(1)),
        region_size=4, steps=6, data_range=(0.0, 1.0), generator=generator_for(IMAGES, 3),
    )  # fmt: skip
    values = {
        "sensitivity_l2_survival": expected.morf,
        "random_survival": expected.random,
        "sensitivity_l2_survival_lerf": expected.lerf,
        "sensitivity_l2_survival_gap": expected.gap,
    }
    assert 0 < float(expected.morf.mean()) < 1
    for name, of_images in values.items():
        assert found.mean(name) == pytest.approx(float(of_images.mean()), abs=1e-9)
        assert found.sem(name) == pytest.approx(float(of_images.std() / 10**0.5), abs=1e-9)


def test_several_explanations_of_an_image_have_no_survival() -> None:
    protocol = replace(PROTOCOL, target=lambda outputs: outputs > 0)
    found = evaluate(small_network().eval(), IMAGES, None, NAMED, protocol, 0, lerf=True)
    assert not [name for name in found.sums if "survival" in name]


def test_agreement_is_kappa_of_the_predictions() -> None:
    torch.manual_seed(0)
    model = small_network().eval()
    predicted, other = model(IMAGES).argmax(1), torch.arange(10) % 4
    reference = ReferenceClasses.of(other)
    without = evaluate(model, IMAGES, None, NAMED, PROTOCOL, seed=3)
    parts = [
        evaluate(model, IMAGES[p], None, NAMED, PROTOCOL, 3, reference=reference.part(range(10)[p]))
        for p in (slice(0, 4), slice(4, 10))
    ]
    whole = evaluate(model, IMAGES, None, NAMED, PROTOCOL, seed=3, reference=reference)
    assert {n: s for n, s in whole.summary().items() if "agreement" not in n} == without.summary()
    assert whole.forwards == without.forwards
    nobody = parts[0].emptied()
    joined = nobody.with_vector(sum(part.as_vector() for part in parts))  # type: ignore[arg-type]
    for found in (whole, parts[0] + parts[1], joined):
        assert found.num_images == 10
        kappa, error = cohen_kappa(predicted, other), cohen_kappa_standard_error(predicted, other)
        assert found.summary()["agreement"] == pytest.approx(float(kappa), abs=1e-12)
        assert found.summary()["agreement_sem"] == pytest.approx(float(error), abs=1e-12)


def test_agreement_of_one_and_the_same_class_has_no_value() -> None:
    model = small_network().eval()
    predicted = model(IMAGES).argmax(1)
    rows = (predicted == predicted[0]).nonzero()[:, 0]
    reference = ReferenceClasses.of(predicted[rows])
    found = evaluate(model, IMAGES[rows], None, NAMED, PROTOCOL, 0, reference=reference)
    assert not [name for name in found.summary() if "agreement" in name]


def test_plan_counts_the_least_relevant_first() -> None:
    line = plan(IMAGES, list(NAMED), PROTOCOL, range_read_off=False, lerf=True)
    assert "lrp, sensitivity_l2 (also least relevant first) and a random order: 310 for" in line
