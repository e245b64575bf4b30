"""Runs tests, and writes what became of each as soon as it is known.

    python -m benchmarks.on_gpu.outcomes FILE [arguments of pytest]

The file gets a line of JSON with the names of all tests, then one per test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest


class Outcomes:
    """A plugin of pytest.

    Args:
        file: where the lines go.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell which tests there are."""
        self._write({"tests": [item.nodeid for item in session.items]})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of a file that could not be read."""
        if report.failed:
            reason = str(report.longrepr).strip().splitlines()[-1]
            self._write({"test": report.nodeid, "outcome": "failed", "reason": reason})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell of a test: when it was called, or could not be."""
        if report.when != "call" and report.passed:
            return
        line: dict[str, Any] = {
            "test": report.nodeid,
            "outcome": report.outcome,
            "seconds": round(report.duration, 2),
            "reason": _reason(report),
            **dict(report.user_properties),
        }
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")


def _reason(report: pytest.TestReport) -> str:
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):  # of a test that was skipped: file, line, reason
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else crash.message
    return " ".join(text.split())[:200]


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[2:], plugins=[Outcomes(Path(sys.argv[1]))]))
