"""How the values of several seeds are told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean


def spread(values: Sequence[float]) -> str:
    """The mean, with several values also the least and the greatest; nothing where there is none.

    Example:
        >>> spread([0.5]), spread([0.25, 0.75]), spread([math.nan])
        ('0.500', '0.500 (0.250 to 0.750)', '')
        >>> spread([0.25, math.nan, 0.75])
        '0.500 (0.250 to 0.750, 2 of 3 seeds)'
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    if len(values) == 1:
        return f"{known[0]:.3f}"
    missing = f", {len(known)} of {len(values)} seeds" if len(known) < len(values) else ""
    return f"{fmean(known):.3f} ({min(known):.3f} to {max(known):.3f}{missing})"
