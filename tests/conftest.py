"""Settings for all tests."""

from collections.abc import Iterator

import pytest
import torch

from tests import processes

# Networks here are tiny: a second thread costs more than it brings, most of all beside others.
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def quick_processes() -> Iterator[None]:
    """What Lightning spawns is there at once; see `tests.processes`."""
    with processes.quick_starts():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest test goes first, so that no process is left with it alone at the end.
    items.sort(key=lambda item: item.path.name != "test_style.py")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
