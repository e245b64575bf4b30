"""The text of an error is found, or said to be none."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from aopc_monitor.network.asked import ForwardError, asked_for
from aopc_monitor.utilities.error_text import said_by, shortened


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
