"""How a setting reads: the same in every process, so that two measurements can be told apart."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any


def setting_text(value: object) -> str:
    """The text of a setting, without the addresses that functions and plain objects have in it.

    Example:
        >>> def brightness(images): ...
        >>> setting_text((brightness, "uniform", 4))
        "(<function brightness>, 'uniform', 4)"
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def arguments_text(function: Callable[..., Any], values: Mapping[str, object]) -> str:
    """Arguments as a call of a function would give them, without those that are as usual.

    Example:
        >>> def measure(*, steps, order="morf", seed=0): ...
        >>> arguments_text(measure, {"seed": 3, "order": "morf", "steps": 8})
        'steps=8, seed=3'
    """
    parameters = inspect.signature(function).parameters
    usual = {name: setting_text(p.default) for name, p in parameters.items() if name in values}
    given = {name: setting_text(values[name]) for name in usual}
    return ", ".join(f"{name}={given[name]}" for name in usual if given[name] != usual[name])
