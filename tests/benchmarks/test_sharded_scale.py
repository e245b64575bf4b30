from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sharded_scale import Setting, look, main, table

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "many_processes.md"


def test_a_device_gathers_all_parameters_but_its_own_in_each_forward_and_backward_pass() -> None:
    found = look(1, 2, Setting(images=32))
    # Two forwards that ask, one of clean images, one of a heatmap, one of each order.
    assert (found.rounds, found.forwards) == (1, 6)
    assert found.gathered == pytest.approx(7 * 2e9 / 2)


def test_more_devices_than_blocks_make_nothing_faster() -> None:
    setting = Setting(latency=0.0, bandwidth=1e30)
    assert look(7, 8, setting).seconds == pytest.approx(look(7, 512, setting).seconds)
    assert look(7, 1, setting).seconds > 7 * look(7, 8, setting).seconds


def test_the_guide_holds_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    printed = capsys.readouterr().out
    assert printed == f"{table(Setting())}\n"
    assert printed in GUIDE.read_text()
