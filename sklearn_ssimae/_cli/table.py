"""Tables that hold whole rows alone, also after a full disk or a power cut."""

from __future__ import annotations

import csv
import io
import locale
import os
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from sklearn_ssimae._cli.arrivals import place_of
from sklearn_ssimae._writing import replacing

Row = dict[str, Any]
Fields = dict[str, str]

TABLE = "results.csv"
COLUMNS = (
    *("path", "score", "p", "label", "n_defects", "defect_area"),
    *("x", "y", "width", "height", "error"),
    *("time", "threshold", "detector", "detector_sha256"),
)
DEFECTS = "defects.csv"
# In the order of `find_defects`.
_DEFECT = (
    *("path", "area", "top", "left", "bottom", "right", "centroid_row", "centroid_column"),
    *("longer_axis", "shorter_axis", "orientation", "peak", "mean", "touches_border"),
)
_MILLIMETRES = (
    *("area_mm2", "centroid_row_mm", "centroid_column_mm", "longer_axis_mm", "shorter_axis_mm"),
)
_NO_NUMBERS = ("path", "label", "error", "time", "detector", "detector_sha256")

# Names of files may hold bytes that are no text.
_ENCODING: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
_BYTE_ORDER_MARK = "\ufeff"


class Form(NamedTuple):
    """How a table is written: what stands before it, between fields, and in numbers."""

    mark: str = ""
    separator: str = ","
    decimal_mark: str = "."


class Layout(NamedTuple):
    """The columns of a table, whether a row's fields are all there, and the form."""

    columns: tuple[str, ...]
    is_whole: Callable[[Fields], bool]
    form: Form

    def as_text(self, rows: Iterable[Sequence[Any]]) -> str:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.form.separator).writerows(rows)
        return text.getvalue()

    def head(self) -> str:
        return self.form.mark + self.as_text([self.columns])


def results_layout(form: Form) -> Layout:
    """A row an image."""
    return Layout(COLUMNS, _is_verdict_or_error, form)


def defects_layout(form: Form, *, in_millimetres: bool) -> Layout:
    """A row a defect."""
    columns = _DEFECT + (_MILLIMETRES if in_millimetres else ())
    return Layout(columns, lambda row: all(row.values()), form)


def form_for_excel() -> Form:
    """What Excel opens by a double click: with numbers as the user's locale writes them."""
    before = locale.setlocale(locale.LC_NUMERIC)
    try:
        locale.setlocale(locale.LC_NUMERIC, "")
        decimal_mark = locale.localeconv()["decimal_point"]
    except locale.Error:  # the environment names a locale that is not installed
        decimal_mark = "."
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)
    if decimal_mark == ",":
        return Form(_BYTE_ORDER_MARK, ";", ",")
    return Form(_BYTE_ORDER_MARK)


class Table:
    """A table that is written row by row, each as a whole or not at all.

    Parameters
    ----------
    path : Path
    layout : Layout
    goes_on : bool
        Whether rows are added to those that are there.
    """

    def __init__(self, path: Path, layout: Layout, *, goes_on: bool) -> None:
        self._path = path
        self._layout = layout
        self._goes_on = goes_on and path.is_file() and path.stat().st_size > 0

    def __enter__(self) -> Self:
        # Without a buffer: what could not be written would be tried again on closing.
        self._file = self._path.open("ab" if self._goes_on else "wb", buffering=0)
        if not self._goes_on:
            self._write(self._layout.head())
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, *rows: Row) -> None:
        """Write rows, all or none; columns that they lack stay empty."""
        fields = [[self._field(row, name) for name in self._layout.columns] for row in rows]
        self._write(self._layout.as_text(fields))

    def remove(self, path: str) -> None:
        """Remove the rows of an image."""
        rows, _ = _whole_rows(self._path, self._layout)
        place = place_of(path)
        kept = [row for row in rows if place_of(row["path"]) != place]
        self._file.close()
        _store(self._path, self._layout, kept)
        self._file = self._path.open("ab", buffering=0)

    def _field(self, row: Row, name: str) -> str:
        text = str(row.get(name, ""))
        return text if name in _NO_NUMBERS else text.replace(".", self._layout.form.decimal_mark)

    def _write(self, text: str) -> None:
        content = memoryview(text.encode(**_ENCODING))
        size = os.fstat(self._file.fileno()).st_size
        try:
            while content:
                content = content[self._file.write(content) :]
        except BaseException:
            # The next row would be glued to a part of this one.
            self._file.truncate(size)
            self._file.seek(size)
            raise


def go_on_with(results: Path, of_results: Layout, defects: Path, of_defects: Layout) -> list[str]:
    """The images that earlier tables hold, which are mended first.

    Rows that are not whole are removed. So are errors of images that are still there or were
    inspected later, and images that are still there and have other defects in the one table than
    in the other: those images are inspected again. Defects of images that are not in the table of
    results are removed.

    Raises
    ------
    ValueError
        When a file is no such table, or one of another form.
    """
    rows, n_torn = _whole_rows(results, of_results)
    found, n_torn_defects = _whole_rows(defects, of_defects)
    _warn_of_torn_rows(results, n_torn)
    _warn_of_torn_rows(defects, n_torn_defects)
    inspected = {place_of(row["path"]): row for row in rows if row["label"]}
    n_found = Counter(place_of(row["path"]) for row in found)
    # As after a crash between the two tables; what has gone cannot be inspected again.
    differing = {
        place
        for place, row in inspected.items()
        if int(row["n_defects"]) != n_found[place] and os.path.lexists(place)
    }
    kept = [row for row in rows if not _is_to_come(row, inspected, differing)]
    places = inspected.keys() - differing
    _store(results, of_results, kept)
    _store(defects, of_defects, [row for row in found if place_of(row["path"]) in places])
    return [row["path"] for row in kept]


def _is_to_come(row: Fields, inspected: Container[str], differing: Container[str]) -> bool:
    """Whether the image of a row is inspected again, or was after this error."""
    place = place_of(row["path"])
    is_past_error = not row["label"] and (place in inspected or os.path.lexists(row["path"]))
    return place in differing or is_past_error


def paths_in(path: Path, layout: Layout) -> set[str]:
    """Where the images are that a table holds."""
    return {place_of(row["path"]) for row in _whole_rows(path, layout)[0]}


def _warn_of_torn_rows(path: Path, n_torn: int) -> None:
    if n_torn:
        rows_are = "a row that is not whole was" if n_torn == 1 else f"{n_torn} torn rows were"
        warnings.warn(
            f"{path}: {rows_are} removed, as after a full disk or a power cut. The images are "
            "inspected again if they are still there.",
            stacklevel=3,
        )


def _store(path: Path, layout: Layout, rows: Iterable[Fields]) -> None:
    """Write a table anew, if that changes it."""
    content = (layout.head() + layout.as_text([list(row.values()) for row in rows])).encode(
        **_ENCODING
    )
    if path.is_file() and path.read_bytes() != content:
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def _whole_rows(path: Path, layout: Layout) -> tuple[list[Fields], int]:
    """The rows of a table, and the number of those that are not whole."""
    if not path.is_file():
        return [], 0
    content = path.read_bytes().decode(**_ENCODING)
    head = layout.head()
    if head.startswith(content):  # nothing but a part of the head was written
        return [], 0
    if not content.startswith(head):
        _refuse(path, content, layout)
    # What stands after the last end of a line is a part of a row.
    whole, _, rest = content[len(head) :].rpartition("\n")
    try:
        rows = list(csv.reader(io.StringIO(whole, newline=""), delimiter=layout.form.separator))
    except (ValueError, csv.Error):
        raise ValueError(f"{str(path)!r} cannot be read; choose another folder.") from None
    columns = layout.columns
    good = [
        fields
        for row in rows
        if len(row) == len(columns) and not any("\0" in field for field in row)
        if layout.is_whole(fields := dict(zip(columns, row, strict=True))) and fields["path"]
    ]
    return good, len(rows) - len(good) + bool(rest)


def _refuse(path: Path, content: str, layout: Layout) -> None:
    """Say why a file is not the table that was expected."""
    first = content.removeprefix(_BYTE_ORDER_MARK).split("\n")[0].rstrip("\r")
    names = tuple(first.replace(";", ",").split(","))
    is_of_results = layout.columns == COLUMNS
    if names not in ((COLUMNS,) if is_of_results else (_DEFECT, _DEFECT + _MILLIMETRES)):
        kind = "results" if is_of_results else "defects"
        raise ValueError(f"{str(path)!r} is no table of {kind}; choose another folder.")
    options = "--excel" if is_of_results else "--excel or --mm-per-pixel"
    raise ValueError(
        f"{str(path)!r} was written in another form: with or without {options}, or in another "
        "locale. Go on as it was begun, or choose another folder."
    )


def _is_verdict_or_error(row: Fields) -> bool:
    """Whether a row holds a verdict with its numbers, or an error."""
    score, label, error = row["score"], row["label"], row["error"]
    if label in ("good", "defect"):
        return bool(score and row["n_defects"].isdecimal() and not error)
    return bool(error and not label)
