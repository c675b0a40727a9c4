"""The table of results: whole rows alone, also after a full disk or a power cut."""

from __future__ import annotations

import csv
import io
import os
import warnings
from pathlib import Path
from typing import Any, Self

from sklearn_ssimae._cli.arrivals import place_of
from sklearn_ssimae._writing import replacing

COLUMNS = (
    *("path", "score", "label", "n_defects", "defect_area"),
    *("x", "y", "width", "height", "error"),
)
TABLE = "results.csv"
Row = dict[str, Any]

# Names of files may hold bytes that are no text.
_ENCODING: Any = {"encoding": "utf-8", "errors": "surrogateescape"}


class Table:
    """A table that is written row by row, each as a whole or not at all.

    Parameters
    ----------
    path : Path
    goes_on : bool
        Whether rows are added to those that are there.
    """

    def __init__(self, path: Path, *, goes_on: bool) -> None:
        self._path = path
        self._goes_on = goes_on and path.is_file() and path.stat().st_size > 0

    def __enter__(self) -> Self:
        # Without a buffer: what could not be written would be tried again on closing.
        self._file = self._path.open("ab" if self._goes_on else "wb", buffering=0)
        if not self._goes_on:
            self._write(_as_text([COLUMNS]))
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        """Write a row; columns that it lacks stay empty."""
        self._write(_as_text([[row.get(column, "") for column in COLUMNS]]))

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


def go_on_with(path: Path) -> list[str]:
    """The images that an earlier table holds, which is mended first.

    Rows that are not whole are removed, and so are errors of images that are still there or were
    inspected later: those images are inspected again.

    Raises
    ------
    ValueError
        When the file is no table of results.
    """
    if not path.is_file():
        return []
    content = path.read_bytes().decode(**_ENCODING)
    rows, n_torn = _whole_rows(content, path)
    inspected = {place_of(row["path"]) for row in rows if row["label"]}
    kept = [
        row
        for row in rows
        if row["label"] or not (place_of(row["path"]) in inspected or os.path.lexists(row["path"]))
    ]
    if n_torn:
        rows_are = "a row that is not whole was" if n_torn == 1 else f"{n_torn} torn rows were"
        warnings.warn(
            f"{path}: {rows_are} removed, as after a full disk or a power cut. The images are "
            "inspected again if they are still there.",
            stacklevel=2,
        )
    mended = _as_text([COLUMNS, *(row.values() for row in kept)])
    if mended != content:
        with replacing(path) as temporary:
            temporary.write_bytes(mended.encode(**_ENCODING))
    return [row["path"] for row in kept]


def _whole_rows(content: str, path: Path) -> tuple[list[dict[str, str]], int]:
    """The rows of a table, and the number of those that are not whole."""
    head = _as_text([COLUMNS])
    if head.startswith(content):  # nothing but a part of the head was written
        return [], 0
    # What stands after the last end of a line is a part of a row.
    whole, _, rest = content.rpartition("\n")
    try:
        names, *rows = csv.reader(io.StringIO(whole, newline=""))
    except (ValueError, csv.Error):
        names, rows = [], []
    if tuple(names) != COLUMNS:
        raise ValueError(f"{str(path)!r} is no table of results; choose another folder.")
    good = [dict(zip(COLUMNS, row, strict=True)) for row in rows if _is_whole(row)]
    return good, len(rows) - len(good) + bool(rest)


def _is_whole(row: list[str]) -> bool:
    """Whether a row has all its fields: a verdict with its numbers, or an error."""
    if len(row) != len(COLUMNS) or any("\0" in field for field in row) or not row[0]:
        return False
    _, score, label, *_, error = row
    return bool(score and not error) if label in ("good", "defect") else bool(error and not label)


def _as_text(rows: Any) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()
