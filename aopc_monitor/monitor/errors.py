"""What the monitor tells people."""

from __future__ import annotations

import sys
import warnings


def warn(text: str) -> None:
    """Warn, and go on also where warnings are made errors: only one process warns.

    Example:
        >>> import contextlib
        >>> with warnings.catch_warnings(), contextlib.redirect_stderr(sys.stdout):
        ...     warnings.simplefilter("error")
        ...     warn("no images")
        AOPCMonitor: no images
    """
    try:
        warnings.warn(f"AOPCMonitor: {text}", stacklevel=3)
    except UserWarning as warning:
        print(warning, file=sys.stderr)
