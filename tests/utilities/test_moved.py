"""Old paths name the new ones."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module, util

import pytest

from aopc_monitor.utilities.moved import MOVED, MovedModules, name_moved_modules


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_path_names_the_new_one(old: str, new: str) -> None:
    path = f"aopc_monitor.{old}"
    message = rf"^{path} is now aopc_monitor\.{new}$"
    with pytest.raises(ImportError, match=message):
        import_module(path)
    parent, _, name = path.rpartition(".")
    with pytest.raises(ImportError, match=message):
        exec(f"from {parent} import {name}")
    assert util.find_spec(f"aopc_monitor.{new}") is not None


def test_an_old_path_as_an_attribute_names_the_new_one() -> None:
    message = r"no attribute 'bounds': it is now aopc_monitor\.metrics\.functional\.bounds$"
    with pytest.raises(AttributeError, match=message):
        import_module("aopc_monitor").bounds  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        import_module("aopc_monitor").nothing  # noqa: B018


def test_what_never_was_is_not_found_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'aopc_monitor\.nothing'"):
        import_module("aopc_monitor.nothing")


def test_the_finder_is_asked_last_and_stands_there_once() -> None:
    name_moved_modules()
    code = "import sys, aopc_monitor; print(*(type(f).__name__ for f in sys.meta_path))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert names.index(MovedModules.__name__) == len(names) - 1
    assert sum(isinstance(finder, MovedModules) for finder in sys.meta_path) == 1
