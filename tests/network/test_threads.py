"""Torch computes on one thread for a while, and on as many as before afterwards."""

from __future__ import annotations

import pytest
import torch

from aopc_monitor.network.threads import on_one_thread


def fail_on_one_thread() -> None:
    assert torch.get_num_threads() == 1
    raise KeyError


def test_threads_come_back_after_an_error() -> None:
    """A guest leaves the settings of the process as they were, whatever happens."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyError), on_one_thread():
            fail_on_one_thread()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
