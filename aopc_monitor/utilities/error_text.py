"""What an error says, whatever class it is of."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any


def said_by(error: BaseException) -> str:
    """The text of an error; a user's own class may fail to make it.

    Example:
        >>> said_by(ValueError("no images"))
        'no images'
    """
    try:
        return str(error)
    except Exception:
        return "(an error whose text cannot be made)"


def shortened(text: str, most: int = 300) -> str:
    r"""The first line of a text, or of that what fits: errors may print a whole network.

    Example:
        >>> shortened("wrong shape\nNet(\n  (0): Linear)")
        'wrong shape'
    """
    line = text.strip().partition("\n")[0]
    return line if len(line) <= most else f"{line[:most]}..."


def unknown_name(argument: str, given: object, known: Iterable[str]) -> str:
    """What to say of a name that is none of the known ones, with those that it is close to.

    Example:
        >>> unknown_name("order", "Lerf", ["morf", "lerf", "random"])
        "order='Lerf' is unknown (did you mean 'lerf'?): choose one of morf, lerf, random"
    """
    known = list(known)
    near = difflib.get_close_matches(str(given).lower(), known, n=2, cutoff=0.75)
    meant = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    return f"{argument}={given!r} is unknown{meant}: choose one of {', '.join(known)}"


def check_takes(argument: str, function: Callable[..., Any], names: tuple[str, ...]) -> None:
    """Raise TypeError for a function that cannot be called with so many arguments.

    Other callables are not looked at: of some, Python tells a signature that is not theirs.

    Example:
        >>> check_takes("score", lambda outputs: outputs, ("outputs", "target"))
        Traceback (most recent call last):
        TypeError: score=<lambda> takes (outputs); it is called with (outputs, target)
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return
    signature = inspect.signature(function)
    try:
        signature.bind(*names)
    except TypeError:
        name = getattr(function, "__name__", type(function).__name__)
        listed = ", ".join(str(parameter) for parameter in signature.parameters.values())
        raise TypeError(
            f"{argument}={name} takes ({listed}); it is called with ({', '.join(names)})"
        ) from None
