"""What a checkpoint keeps of a monitor, and what has changed when a run goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Kept:
    """What a checkpoint keeps: texts, numbers, and lists and dicts of them.

    Attributes:
        history: one record per evaluation.
        data_range: what was read off the images; None where it was given.
        settings: what values depend on, by the name of the probe.
        failures: evaluations that have failed.
    """

    history: list[dict[str, float]]
    data_range: Any
    settings: dict[str, dict[str, Any]]
    failures: int

    def state(self) -> dict[str, Any]:
        """As a checkpoint takes it."""
        return dict(vars(self))

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Kept:
        """What `state` gave to a checkpoint."""
        history, settings = list(state["history"]), dict(state["settings"])
        return cls(history, state["data_range"], settings, state["failures"])


def changes(before: Settings, now: Settings) -> list[str]:
    """What differs between the settings of a checkpoint and those of the run that goes on from it.

    Args:
        before: settings by the name of the probe, as `Measurement.settings` gives them.
        now: the same of this run.

    Example:
        >>> changes({"": {"probe": "a1", "seed": 0}}, {"": {"probe": "b2", "seed": 0}})
        ['the images of the probe']
    """
    if set(before) != set(now):
        return [f"the probes, from {_list(before)} to {_list(now)}"]
    found = []
    for name, settings in now.items():
        of_probe = f" of the probe {name!r}" if name else ""
        for key in sorted(settings):
            old, new = before[name].get(key), settings[key]
            if old != new and not (
                key == "reference" and _is_of_other_images(before[name], settings)
            ):
                found.append(_change(key, of_probe, old, new))
    return found


def _is_of_other_images(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a reference predicts other classes since it is asked of other images."""
    return bool(before.get("reference") and now["reference"] and before["probe"] != now["probe"])


def _change(key: str, of_probe: str, old: Any, new: Any) -> str:
    if key == "probe":
        return f"the images{of_probe or ' of the probe'}"
    if key == "reference":
        only_one = " (there was none)" if old is None else " (there is none)" if new is None else ""
        return f"what the reference predicts{of_probe}{only_one}"
    return f"{key}{of_probe}, from {old} to {new}"


def _list(names: Settings) -> str:
    return ", ".join(repr(name) for name in names)
