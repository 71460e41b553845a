import os
from pathlib import Path

import pytest

from quarry.storage import private
from quarry.storage.private import make_private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_group_and_others_lose_their_rights_at_any_depth(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "a" / "b").mkdir(parents=True)
    program = folder / "a" / "b" / "compiled"
    program.write_text("")
    for path, wide in ((folder, 0o777), (folder / "a", 0o755), (folder / "a" / "b", 0o710), (program, 0o755)):
        path.chmod(wide)
    assert make_private(folder) == 0
    assert [mode(path) for path in (folder, folder / "a", folder / "a" / "b", program)] == [0o700] * 4


def test_what_links_lead_to_is_left_alone(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for made in (folder, elsewhere):
        made.mkdir()
    (elsewhere / "file").write_text("")
    for path, wide in ((elsewhere, 0o755), (elsewhere / "file", 0o644)):
        path.chmod(wide)
    (folder / "to folder").symlink_to(elsewhere)
    (folder / "to file").symlink_to(elsewhere / "file")
    (folder / "to nothing").symlink_to("none")
    assert make_private(folder) == 0
    assert (mode(elsewhere), mode(elsewhere / "file")) == (0o755, 0o644)


def test_what_belongs_to_another_user_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").write_text("")
    (tmp_path / "theirs").chmod(0o644)
    (tmp_path / "mine").write_text("")
    (tmp_path / "mine").chmod(0o644)
    chmod = os.chmod

    def refuse(path: Path, mode: int, **how: bool) -> None:
        if Path(path).name == "theirs":
            raise PermissionError
        chmod(path, mode, **how)

    monkeypatch.setattr(private.os, "chmod", refuse)
    assert make_private(tmp_path) == 1
    assert mode(tmp_path / "mine") == 0o600
