"""Settings of metrics, as tests vary them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from aopc_monitor.network.execution import Execution


def with_execution(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings, of which those of `Execution` become one."""
    names = [field.name for field in fields(Execution) if field.name in settings]
    rest = {name: value for name, value in settings.items() if name not in names}
    return rest | {"execution": Execution(**{name: settings[name] for name in names})}
