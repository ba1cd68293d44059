"""What was named, and what is left behind."""

import pytest

from vie_models.app import library
from vie_models.app.library import EXAMPLE, Library, Scratch


def test_what_is_named_is_listed(tmp_path):
    for name in ("b.mp4", "sub/a.MKV", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = Library([tmp_path, tmp_path / "notes.txt", tmp_path / "b.mp4"])
    assert [one.name for one in found.videos.values()] == ["b.mp4", "sub/a.MKV", "notes.txt"]
    assert not found.features


def test_nothing_named_is_the_example():
    (one,) = Library([]).videos.values()
    assert one.path == EXAMPLE
    assert EXAMPLE.stat().st_size <= 600_000
    assert "CC BY 4.0" in EXAMPLE.with_name("NOTICE").read_text()


def test_ids_stay(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert list(Library([tmp_path]).videos) == list(Library([tmp_path / "a.mp4"]).videos)


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        Library([tmp_path / "missing"])
    with pytest.raises(ValueError, match="neither videos nor features"):
        Library([tmp_path])


def test_folders_of_dead_servers_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(library.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path))
    living, dead = Scratch(), tmp_path / f"{library._PREFIX}dead"
    dead.mkdir()
    (dead / ".lock").touch()
    (dead / "drop").touch()
    other = tmp_path / "vie-app-of-another"
    other.mkdir()
    new = Scratch()
    assert living.folder.exists()
    assert other.exists()
    assert not dead.exists()
    living.close()
    new.close()
    assert list(tmp_path.iterdir()) == [other]
