from __future__ import annotations

import pytest
import torch

pytest.importorskip("matplotlib")

from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.dashboard.panels import curves_panel, pooled_curve, progress_panel

RECORD = {"aopc/lrp": 0.2, "aopc/lrp_sem": 0.01, "aopc/random": 0.1, "aopc/random_sem": 0.01}


def test_progress_has_a_line_for_each_heatmap_and_the_control() -> None:
    first = {"step": 0, **RECORD, "aopc/confidence": 0.3, "aopc/accuracy": 0.1}
    # A heatmap that the run before a resume did not have.
    last = first | {"step": 500, "aopc/mine": 0.3, "aopc/accuracy": 0.6}
    figure = progress_panel([first, last], "aopc", "", ["lrp", "mine"], "logit")
    left, right = figure.axes
    lines = {line.get_label(): list(line.get_xydata().tolist()) for line in left.lines}
    assert lines["lrp"] == lines["lrp"][:2] == [[0.0, 0.2], [500.0, 0.2]]
    assert lines["mine"] == [[500.0, 0.3]]
    assert "random order" in lines
    assert left.get_ylabel() == "AOPC (logit, ± SEM)"
    assert right.get_ylabel() == "accuracy"
    assert list(right.lines[0].get_ydata()) == [0.1, 0.6]


def test_progress_without_labels_shows_confidence_and_says_so() -> None:
    record = {key.replace("aopc/", "aopc/far/"): value for key, value in RECORD.items()}
    record |= {"step": 7, "aopc/far/confidence": 0.4}
    figure = progress_panel([record], "aopc", "far", ["lrp"], "probability")
    assert figure.axes[1].get_ylabel() == "confidence"
    assert list(figure.axes[1].lines[0].get_ydata()) == [0.4]
    assert figure.axes[0].get_title() == "far, training step 7"


def test_progress_marks_where_agreement_was_highest() -> None:
    history = [
        {"step": step, **RECORD, "aopc/agreement": kappa, "aopc/agreement_sem": 0.05}
        for step, kappa in ((0, -0.1), (100, 0.6), (200, 0.4))
    ]
    history.append({"step": 300, **RECORD})  # a look of a run that had no reference
    left, right = progress_panel(history, "aopc", "", ["lrp"], "probability").axes
    assert right.get_ylabel() == "agreement"
    lines = {line.get_label(): line.get_xydata().tolist() for line in right.lines}
    assert lines["agreement"] == [[0, -0.1], [100, 0.6], [200, 0.4]]
    assert lines["most at step 100"] == [[100, 0.6]]
    assert right.get_ylim()[0] < -0.1
    assert len(right.collections) == 1  # the band of its standard error
    legend = [text.get_text() for text in left.figure.legends[0].get_texts()]
    assert legend == ["lrp", "random order", "agreement", "most at step 100"]


def test_agreement_stands_beside_accuracy() -> None:
    record = {"step": 5, **RECORD, "aopc/agreement": 0.2, "aopc/accuracy": 0.5}
    figure = progress_panel([record], "aopc", "", ["lrp"], "probability")
    assert figure.axes[1].get_ylabel() == "accuracy and agreement"
    assert figure.axes[1].get_ylim() == (0, 1)


def evaluation(*heatmaps: str) -> Evaluation:
    curves = torch.tensor([[0.9, 0.5, float("nan"), 0.1], [0.7, 0.5, float("nan"), 0.3]])
    names = [f"{name}{order}" for name in heatmaps for order in ("_curve", "_lerf_curve")]
    return Evaluation.of(dict.fromkeys(("random_curve", *names), curves), 0)


def test_curves_bridge_steps_without_images() -> None:
    (axis,) = curves_panel(evaluation("lrp"), "", ["lrp"], "probability", 1200).axes
    assert axis.get_title() == "lrp, training step 1,200"
    assert axis.get_ylabel() == "probability ± SEM"
    assert len(axis.collections) == 3
    labels = [line.get_label() for line in axis.lines]
    assert labels == ["most relevant first", "least relevant first", "random order"]
    for line in axis.lines:
        assert line.get_xydata().flatten().tolist() == pytest.approx([0, 0.8, 1, 0.5, 3, 0.2])


def test_points_of_a_sampled_curve_rest_on_enough_images() -> None:
    """Of 100 images each was evaluated at one of ten steps."""
    curves = torch.full((100, 11), float("nan"), dtype=torch.float64)
    curves[:, 0] = 1.0
    steps = torch.arange(100) % 10 + 1
    curves[torch.arange(100), steps] = torch.rand(100, dtype=torch.float64) / steps
    sums = Evaluation.of({"curve": curves}, 0).sums["curve"]
    values, errors = pooled_curve(sums, fewest_images=30)
    known = values.isfinite().nonzero().flatten().tolist()
    assert known == [0, 2, 5, 8]  # steps 1 to 3, 4 to 6, and 7 to 10, the last with what is left
    last = curves[:, 7:][curves[:, 7:].isfinite()]
    assert float(values[8]) == pytest.approx(float(last.mean()))
    assert float(errors[8]) == pytest.approx(float(last.std()) / 40**0.5)


def test_curves_of_all_steps_are_drawn_as_they_are() -> None:
    curves = torch.rand(5, 7, dtype=torch.float64)
    values, errors = pooled_curve(Evaluation.of({"curve": curves}, 0).sums["curve"])
    torch.testing.assert_close(values, curves.mean(dim=0))
    torch.testing.assert_close(errors, curves.std(dim=0) / 5**0.5)


def test_curves_of_many_heatmaps_say_which_are_left_out() -> None:
    names = ["a", "b", "c", "d", "e"]
    figure = curves_panel(evaluation(*names), "", names, "probability", 3)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", "d"]
    assert figure.get_suptitle() == "training step 3 (first 4 of 5 heatmaps)"


def test_curves_over_shares_say_what_a_step_is() -> None:
    (axis,) = curves_panel(evaluation("lrp"), "", ["lrp"], "probability", 3, True).axes
    assert axis.get_xlabel() == "step (at the last, all regions)"
    (axis,) = curves_panel(evaluation("lrp"), "", ["lrp"], "probability", 3).axes
    assert axis.get_xlabel() == "regions perturbed"
