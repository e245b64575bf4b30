"""The text of an error is found, or said to be none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from aopc_monitor import AOPC
from aopc_monitor.network.asked import ForwardError, asked_for
from aopc_monitor.utilities.error_text import said_by, shortened

REGIONS: Any = {"region_size": 4, "steps": 2, "data_range": (0.0, 1.0)}


class UnprintableError(Exception):
    """An error that fails to tell what it is."""

    def __str__(self) -> str:
        raise RuntimeError("an error of its own")


class Broken(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise UnprintableError


def test_an_error_whose_text_cannot_be_made() -> None:
    assert said_by(UnprintableError()) == "(an error whose text cannot be made)"


def test_a_forward_that_raises_it_is_named() -> None:
    asked = asked_for(Broken(), images := torch.rand(2, 3, 8, 8), "probability")
    said = re.escape("raised UnprintableError: (an error whose text cannot be made)")
    with pytest.raises(ForwardError, match=said), asked.explaining_errors(images):
        asked.network(images)


def test_the_first_line_of_a_long_text() -> None:
    assert shortened("a" * 400 + "\nmore") == "a" * 300 + "..."


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: AOPC("LRP", **REGIONS),
            r"heatmap='LRP' is unknown \(did you mean 'lrp'\?\): choose",
        ),
        (lambda: AOPC(order="mrof", **REGIONS), r"\(did you mean 'morf'\?\)"),
        (lambda: AOPC(replacement="unifrom", **REGIONS), r"\(did you mean 'uniform'\?\)"),
        (
            lambda: AOPC(score="propability", **REGIONS),
            r"\(did you mean 'probability' or 'log_prob",
        ),
        (
            lambda: AOPC(score="x", **REGIONS),
            "score='x' is unknown: choose one of probability, logit",
        ),
    ],
)
def test_names_that_are_close_are_told(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_callables_that_take_something_else_are_told() -> None:
    make: Any = AOPC
    with pytest.raises(
        TypeError, match=r"score=<lambda> takes \(o\); it is called with \(outputs, "
    ):
        make(score=lambda o: o[:, 0], **REGIONS)
    with pytest.raises(
        TypeError, match=r"heatmap=<lambda> takes \(m, x\); it is called with \(model"
    ):
        make(lambda m, x: x[:, 0], **REGIONS)
    make(lambda *given: given[1][:, 0], score=lambda o, t, scale=2: o[:, 0] * scale, **REGIONS)
