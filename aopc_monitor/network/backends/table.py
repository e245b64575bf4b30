"""The back ends by name.

A new one is a file of its own, and here its import and one row of `BACKENDS`.
"""

from __future__ import annotations

from importlib.util import find_spec

from aopc_monitor.network.backends.base import Backend
from aopc_monitor.network.backends.compiled import Compiled
from aopc_monitor.network.backends.openvino import OpenVINO

# None is torch, which calls the network as it is.
BACKENDS: dict[str, Backend | None] = {
    "eager": None,
    "compile": Compiled(),
    "openvino": OpenVINO(),
}


def check_backend(name: object) -> None:
    """Raise unless there is a back end of that name, and what it needs is installed.

    Raises:
        ValueError: for an unknown name.
        ModuleNotFoundError: if its package is missing; the message names the extra.

    Example:
        >>> check_backend("fast")
        Traceback (most recent call last):
        ValueError: backend='fast' is unknown: choose one of eager, compile, openvino
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise ValueError(f"backend={name!r} is unknown: choose one of {', '.join(BACKENDS)}")
    needs = getattr(BACKENDS[name], "needs", None)
    if needs is not None and find_spec(needs[0]) is None:
        raise ModuleNotFoundError(
            f'backend="{name}" needs {needs[0]}: pip install "aopc-monitor[{needs[1]}]"'
        )
