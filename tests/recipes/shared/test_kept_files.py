"""Files that are whole or not there, whenever a run is ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.shared.kept_files import save_whole


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    for content in ({"a": torch.arange(3)}, {"a": torch.arange(4)}):
        save_whole(content, tmp_path / "kept.pt")
        found = torch.load(tmp_path / "kept.pt", weights_only=True)
        assert found["a"].equal(content["a"])
    assert [file.name for file in tmp_path.iterdir()] == ["kept.pt"]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, OSError("no space left")])
def test_a_run_that_ends_while_it_saves_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException | type[BaseException]
) -> None:
    save_whole({"a": torch.arange(3)}, tmp_path / "kept.pt")

    def save_half(content: Any, file: Path) -> None:
        file.write_bytes(b"half")
        raise end

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_half)
        with pytest.raises(type(end) if isinstance(end, BaseException) else end):
            save_whole({"a": torch.arange(4)}, tmp_path / "kept.pt")
    assert torch.load(tmp_path / "kept.pt", weights_only=True)["a"].equal(torch.arange(3))
    assert [file.name for file in tmp_path.iterdir()] == ["kept.pt"]
