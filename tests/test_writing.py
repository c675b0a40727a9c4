"""Files that take another's place."""

import os
import stat

import pytest

from sklearn_ssimae._writing import replacing


def test_nobody_elses_file_is_lost(tmp_path):
    others = {name: tmp_path / name for name in ("d.skops.tmp", ".d.skops.tmp", "d.tmp")}
    for name, other in others.items():
        other.write_text(name)
    for _ in range(2):
        with replacing(tmp_path / "d.skops") as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text("new")
    assert (tmp_path / "d.skops").read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"d.skops", *others}
    assert all(other.read_text() == name for name, other in others.items())


def test_two_at_once(tmp_path):
    """The one that ends last remains, whole."""
    path = tmp_path / "a.json"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_was_there_stays_after_an_error(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_new_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "a.json"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_the_longest_names(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert (tmp_path / name).read_text() == "new"
