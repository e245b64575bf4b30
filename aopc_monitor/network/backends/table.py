"""The back ends by name.

A new one is a file of its own, and here its import and one row of `BACKENDS`.
"""

from __future__ import annotations

from importlib.util import find_spec

from aopc_monitor.network.backends.base import Backend
from aopc_monitor.network.backends.compiled import Compiled
from aopc_monitor.network.backends.fused import Fused
from aopc_monitor.network.backends.incremental import Incremental
from aopc_monitor.network.backends.openvino import OpenVINO

# None is torch, which calls the network as it is.
BACKENDS: dict[str, Backend | None] = {
    "eager": None,
    "fused": Fused(),
    "incremental": Incremental(),
    "compile": Compiled(),
    "openvino": OpenVINO(),
}

# No back end, but the one that pays: see `planned`.
AUTO = "auto"


def is_installed(name: str) -> bool:
    """Whether a back end has what it needs."""
    needs = _needs(name)
    return needs is None or find_spec(needs[0]) is not None


def _needs(name: str) -> tuple[str, str] | None:
    backend = BACKENDS[name]
    return None if backend is None else backend.needs


def check_backend(name: object) -> None:
    """Raise unless there is a back end of that name, and what it needs is installed.

    Raises:
        ValueError: for an unknown name.
        ModuleNotFoundError: if its package is missing; the message names the extra.

    Example:
        >>> check_backend("fast")
        Traceback (most recent call last):
        ValueError: backend='fast' is unknown: choose one of eager, fused, incremental, ...
    """
    names = (*BACKENDS, AUTO)
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"backend={name!r} is unknown: choose one of {', '.join(names)}")
    if name != AUTO and not is_installed(name):
        needs = _needs(name) or ("", "")
        raise ModuleNotFoundError(
            f'backend="{name}" needs {needs[0]}: pip install "aopc-monitor[{needs[1]}]"'
        )
