"""Back ends are named, and what is missing for one is told."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from aopc_monitor import Execution
from aopc_monitor.network.backends import table

ROOT = Path(__file__).parent.parent.parent.parent


def test_an_unknown_one_is_told() -> None:
    message = r"^backend='tensorrt' is unknown: choose one of eager, fused, incremental, compile, "
    with pytest.raises(ValueError, match=message):
        Execution(backend="tensorrt")
    with pytest.raises(ValueError, match="backend=True is unknown"):
        Execution(None, None, None, True)  # type: ignore[arg-type]


def test_compiled_is_told_to_be_a_backend() -> None:
    with pytest.raises(
        TypeError, match=r'^Execution\(\) takes no compiled: give backend="compile"$'
    ):
        Execution(compiled=True)


def test_one_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    message = r'^backend="openvino" needs openvino: pip install "aopc-monitor\[fast-cpu\]"$'
    with pytest.raises(ModuleNotFoundError, match=message):
        Execution(backend="openvino")
    assert Execution(backend="compile").backend == "compile"


@pytest.mark.parametrize("name", [name for name, row in table.BACKENDS.items() if row is not None])
def test_each_is_a_file_of_its_own_and_in_the_guide(name: str) -> None:
    row = table.BACKENDS[name]
    files = [inspect.getfile(type(other)) for other in table.BACKENDS.values() if other is not None]
    assert files.count(inspect.getfile(type(row))) == 1
    assert f'"{name}"' in (ROOT / "docs" / "guides" / "precision_and_cost.md").read_text()
    extra = getattr(row, "needs", None)
    assert extra is None or f"{extra[1]} = " in (ROOT / "pyproject.toml").read_text()
