"""What benchmarks share: contestants timed in turns, and what they ran on."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch


def in_turns(contestants: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each turn.

    All run in turns in one process, so that what else the machine does hits them alike.

    Args:
        contestants: by name.
        turns: how often each runs.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, run in contestants.items():
            seconds[name].append(seconds_of(run))
    return seconds


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of a call, until the device has done its work."""
    gc.collect()
    began = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def quickest(contestants: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of the quickest turn of each."""
    return {name: min(seconds) for name, seconds in in_turns(contestants, turns).items()}


def ratio_text(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Median ratio over turns, with the least and the greatest.

    Example:
        >>> ratio_text([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
        '1.00 (0.50 to 1.50)'
    """
    ratios = [own / their for own, their in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def machine(*packages: str) -> str:
    """A line that tells on what and with which versions something was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", *packages))
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    python = platform.python_version()
    processor = f"{_processor()} ({_units()}), {torch.get_num_threads()} threads{device}"
    return f"{processor}; Python {python}, {versions}"


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _units() -> str:
    """The vector units that torch uses, and whether they know bfloat16."""
    flags = _cpuinfo("flags").split()
    halves = ", ".join(flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags)
    return f"{torch.backends.cpu.get_cpu_capability()}, {halves or 'no bfloat16'}"


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    found = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
    return found[0] if found else ""
