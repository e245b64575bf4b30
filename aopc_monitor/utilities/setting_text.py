"""How a setting reads: the same in every process, so that two measurements can be told apart."""

from __future__ import annotations

import re


def setting_text(value: object) -> str:
    """The text of a setting, without the addresses that functions and plain objects have in it.

    Example:
        >>> def brightness(images): ...
        >>> setting_text((brightness, "uniform", 4))
        "(<function brightness>, 'uniform', 4)"
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
