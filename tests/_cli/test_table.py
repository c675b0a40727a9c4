"""The table of results: its rows are whole, whatever happened."""

import csv
import errno
import io

import pytest

from sklearn_ssimae._cli import table
from sklearn_ssimae._cli.table import COLUMNS, Table, go_on_with

GOOD = {"label": "good", "score": "1.2", "n_defects": 0, "defect_area": 0}


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["path"], row["label"], row["error"]) for row in csv.DictReader(file)]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results.csv"


def write(path, *rows, goes_on=False):
    with Table(path, goes_on=goes_on) as written:
        for row in rows:
            written.add(row)


def good(name):
    return {"path": name, **GOOD}


def failed(name, error="cannot be read"):
    return {"path": name, "label": "", "error": error}


HEAD = ",".join(COLUMNS) + "\r\n"


@pytest.mark.parametrize("n_missing", range(1, 29))
def test_a_torn_last_row(path, n_missing):
    """Wherever it was torn: no later row is glued to it, and its image is inspected again."""
    write(path, good("a.png"), good('b, "c"\n.png'))
    path.write_bytes(path.read_bytes()[:-n_missing])
    with pytest.warns(UserWarning, match=r"results\.csv: .* removed, as after a full disk"):
        assert go_on_with(path) == ["a.png"]
    write(path, good("d.png"), goes_on=True)
    assert rows_of(path) == [("a.png", "good", ""), ("d.png", "good", "")]
    assert go_on_with(path) == ["a.png", "d.png"]


@pytest.mark.parametrize("length", range(len(HEAD) + 1))
def test_a_torn_head(path, length):
    path.write_text(HEAD[:length], newline="")
    assert go_on_with(path) == []
    write(path, good("a.png"), goes_on=True)
    assert rows_of(path) == [("a.png", "good", "")]


def test_rows_that_were_glued_together(path):
    """By earlier versions, and zeros that a power cut left."""
    text = "\r\n".join(["a.png,b.png,1.2,good,0,0,,,,,", "c.png,1.2,good,0,0,,,,,", "\0" * 9, ""])
    path.write_text(HEAD + text, newline="")
    with pytest.warns(UserWarning, match="2 torn rows were removed"):
        assert go_on_with(path) == ["c.png"]
    assert rows_of(path) == [("c.png", "good", "")]


def test_errors_of_images_that_are_there_are_forgotten(path):
    """They are inspected again; what was inspected later counts; of others the error stays."""
    (path.parent / "there.png").touch()
    write(path, failed("there.png"), failed("later.png"), failed("gone.png"), good("./later.png"))
    assert go_on_with(path) == ["gone.png", "./later.png"]
    assert [name for name, *_ in rows_of(path)] == ["gone.png", "./later.png"]


def test_a_whole_table_is_left_alone(path, monkeypatch):
    write(path, good("ä\udcff.png"), failed("gone.png", 'two, "words"'))
    content = path.read_bytes()
    monkeypatch.setattr(table, "replacing", pytest.fail)
    assert go_on_with(path) == ["ä\udcff.png", "gone.png"]
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "path\n", "path", '"\n', "\n"])
def test_other_tables_are_refused(path, content):
    is_part_of_the_head = HEAD.startswith(content)
    path.write_text(content)
    if is_part_of_the_head:
        assert go_on_with(path) == []
        return
    with pytest.raises(ValueError, match="is no table of results"):
        go_on_with(path)
    assert path.read_text() == content


class FullDisk(io.FileIO):
    """A file that has room for so many bytes."""

    room = 0

    def write(self, content):
        if not FullDisk.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        n = min(len(content), FullDisk.room)
        FullDisk.room -= n
        return super().write(content[:n])


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_full_disk_leaves_no_part_of_a_row(path, monkeypatch, goes_on):
    write(path, good("a.png"))
    content = path.read_bytes()
    FullDisk.room = 30 if goes_on else len(content) + 30
    rows = [good("image_of_a_long_name.png")] if goes_on else [good("a.png"), good("b" * 40)]
    with monkeypatch.context() as patch:
        patch.setattr(
            type(path), "open", lambda self, mode, buffering: FullDisk(self, mode.replace("b", ""))
        )
        with pytest.raises(OSError, match="No space left"):
            write(path, *rows, goes_on=goes_on)
    assert path.read_bytes() == content
