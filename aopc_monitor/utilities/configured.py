"""Values as configuration systems hand them over: numbers and lists of many types, and paths.

OmegaConf, numpy, torch and YAML each have their own. What is kept, compared and written to
checkpoints is Python's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor


def plain_value(value: Any) -> Any:
    """Numbers and lists of Python out of those of numpy, torch and configuration systems.

    Tuples, lists and ranges stay what they are, and so does everything that is no list or number.

    Example:
        >>> plain_value(np.array([0.0, 1.0])), plain_value((np.float64(0.5), Tensor([1.0])))
        ([0.0, 1.0], (0.5, [1.0]))
    """
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (str, bytes, range)) or not isinstance(value, Sequence):
        return value
    entries = [plain_value(entry) for entry in value]
    return tuple(entries) if isinstance(value, tuple) else entries


def imported(path: str, argument: str) -> Any:
    """What a dotted path names, as YAML can hold it: "package.module.name".

    Args:
        path: the path.
        argument: what it was given for, for the message.

    Raises:
        ValueError: if there is nothing of that name.

    Example:
        >>> imported("math.sqrt", "score")(4.0)
        2.0
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{argument}={path!r} cannot be imported: {error}") from error


def is_path(value: Any) -> bool:
    """Whether it is a text that names something in a module.

    Example:
        >>> is_path("my_project.scores.margin"), is_path("lrp"), is_path("./score.py")
        (True, False, False)
    """
    return isinstance(value, str) and "." in value and value.replace(".", "").isidentifier()


def is_class_path(value: Any) -> bool:
    """Whether it is a class and its arguments, as jsonargparse and others write them."""
    return isinstance(value, Mapping) and "class_path" in value


def made_from_path(value: Mapping[str, Any], argument: str) -> Any:
    """The object that `class_path` and `init_args` describe.

    Example:
        >>> made_from_path({"class_path": "fractions.Fraction", "init_args": {"numerator": 3}}, "x")
        Fraction(3, 1)
    """
    unknown = set(value) - {"class_path", "init_args"}
    if unknown:
        raise ValueError(f"{argument}: {', '.join(sorted(unknown))} beside class_path is unknown")
    made = imported(value["class_path"], argument)
    arguments = {key: plain_value(entry) for key, entry in (value.get("init_args") or {}).items()}
    return made(**arguments)
