"""The table of results: its rows are whole, whatever happened."""

import csv
import errno
import io
import locale

import pytest

from sklearn_ssimae._cli import table
from sklearn_ssimae._cli.table import (
    COLUMNS,
    DEFECTS,
    Form,
    Table,
    defects_layout,
    form_for_excel,
    paths_in,
    results_layout,
)

GOOD = {"label": "good", "score": "1.2", "p": "0.25", "n_defects": 0, "defect_area": 0}
PLAIN, GERMAN = Form(), Form("\ufeff", ";", ",")


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["path"], row["label"], row["error"]) for row in csv.DictReader(file)]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results.csv"


def layouts(form):
    return results_layout(form), defects_layout(form, in_millimetres=False)


def go_on_with(path, form=PLAIN):
    of_results, of_defects = layouts(form)
    return table.go_on_with(path, of_results, path.with_name(DEFECTS), of_defects)


def write(path, *rows, goes_on=False, form=PLAIN):
    layout = layouts(form)[path.name == DEFECTS]
    with Table(path, layout, goes_on=goes_on) as written:
        for row in rows:
            written.add(row)


def good(name):
    return {"path": name, **GOOD}


def failed(name, error="cannot be read"):
    return {"path": name, "label": "", "error": error}


HEAD = ",".join(COLUMNS) + "\r\n"


def test_a_torn_last_row(path):
    """Wherever it was torn: no later row is glued to it, and its image is inspected again."""
    write(path, good("a.png"), good('b, "c"\n.png'))
    whole = path.read_bytes()
    for n_missing in range(1, 33):
        path.write_bytes(whole[:-n_missing])
        with pytest.warns(UserWarning, match=r"results\.csv: .* removed, as after a full disk"):
            assert go_on_with(path) == ["a.png"]
        write(path, good("d.png"), goes_on=True)
        assert rows_of(path) == [("a.png", "good", ""), ("d.png", "good", "")]
        assert go_on_with(path) == ["a.png", "d.png"]


def test_a_torn_head(path):
    for length in range(len(HEAD) + 1):
        path.write_text(HEAD[:length], newline="")
        assert go_on_with(path) == []
        write(path, good("a.png"), goes_on=True)
        assert rows_of(path) == [("a.png", "good", "")]


def test_rows_that_were_glued_together(path):
    """By earlier versions, and zeros that a power cut left."""
    text = "\r\n".join(
        [
            f"a.png,b.png,1.2,0.25,good,0,0{',' * 9}",
            f"c.png,1.2,0.25,good,0,0{',' * 9}",
            "\0" * 9,
            "",
        ]
    )
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


# Defects ------------------------------------------------------------------------------


def defective(name, n_defects):
    return {"path": name, "label": "defect", "score": "3.5", "n_defects": n_defects}


def defect(name, area=7):
    layout = defects_layout(PLAIN, in_millimetres=False)
    return {**dict.fromkeys(layout.columns, "1.5"), "path": name, "area": area}


def defects_of(path):
    return [row["path"] for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))]


def test_images_whose_defects_are_not_all_there_are_inspected_again(path):
    """As after a crash between the tables. Images that have gone keep what there is of them."""
    defects = path.with_name(DEFECTS)
    for name in ("whole.png", "torn.png", "early.png"):
        (path.parent / name).touch()
    names = ("whole.png", "torn.png", "gone.png")
    write(path, *(defective(name, 2) for name in names), good("early.png"))
    rows = [defect(name) for name in ("whole.png", "whole.png", "torn.png", "gone.png")]
    write(defects, *rows, defect("early.png"), defect("new.png"))
    assert go_on_with(path) == ["whole.png", "gone.png"]
    assert defects_of(defects) == ["whole.png", "whole.png", "gone.png"]


def test_a_torn_defect(path):
    defects = path.with_name(DEFECTS)
    (path.parent / "a.png").touch()
    write(path, defective("a.png", 2))
    write(defects, defect("a.png"), defect("a.png"))
    defects.write_bytes(defects.read_bytes()[:-3])
    with pytest.warns(UserWarning, match=r"defects\.csv: a row that is not whole was removed"):
        assert go_on_with(path) == []
    assert defects_of(defects) == []


def test_defects_of_an_image_are_removed(path):
    defects = path.with_name(DEFECTS)
    layout = layouts(PLAIN)[1]
    with Table(defects, layout, goes_on=False) as written:
        written.add(defect("a.png"), defect("b.png"), defect("./a.png"))
        written.remove("a.png")
        written.add(defect("c.png"))
    assert defects_of(defects) == ["b.png", "c.png"]
    assert paths_in(defects, layout) == {str(path.parent / name) for name in ("b.png", "c.png")}


# Excel --------------------------------------------------------------------------------


def test_numbers_as_in_the_locale(path):
    write(path, {**good("a;1.5.png"), "threshold": "2.25"}, form=GERMAN)
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbfpath;score;p;")
    assert b'\r\n"a;1.5.png";1,2;0,25;good;0;0;;;;;;;2,25;;\r\n' in content
    assert go_on_with(path, GERMAN) == ["a;1.5.png"]
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["results.csv", DEFECTS])
@pytest.mark.parametrize("forms", [(PLAIN, GERMAN), (GERMAN, PLAIN), (Form("\ufeff"), GERMAN)])
def test_a_table_of_another_form_is_not_gone_on_with(path, name, forms):
    write(path.with_name(name), form=forms[0])
    with pytest.raises(ValueError, match=r"in another form: .*--excel.*as it was begun"):
        go_on_with(path, forms[1])


@pytest.mark.parametrize(
    ("decimal_mark", "form"), [(",", GERMAN), (".", Form("\ufeff")), (None, Form("\ufeff"))]
)
def test_the_form_for_excel(monkeypatch, decimal_mark, form):
    """Also where the environment names a locale that is not there; the locale stays."""

    def localeconv():
        if decimal_mark is None:
            raise locale.Error
        return {"decimal_point": decimal_mark}

    before = locale.setlocale(locale.LC_NUMERIC)
    monkeypatch.setattr(table.locale, "localeconv", localeconv)
    assert form_for_excel() == form
    assert locale.setlocale(locale.LC_NUMERIC) == before
