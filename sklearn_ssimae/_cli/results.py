"""What `ssimae inspect` writes: the table, masks and maps."""

from __future__ import annotations

import csv
import os
from argparse import Namespace
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image
from scipy import ndimage

from sklearn_ssimae._cli.main import one_line
from sklearn_ssimae._writing import replacing

COLUMNS = (
    *("path", "score", "label", "n_defects", "defect_area"),
    *("x", "y", "width", "height", "error"),
)
TABLE = "results.csv"
Row = dict[str, Any]

# Names of files may hold bytes that are no text.
_AS_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Results:
    """The output folder of an inspection; its table is written row by row.

    Parameters
    ----------
    options : Namespace
        ``output``, the folder; ``masks`` and ``maps``, whether to write them; ``watch``, whether
        to go on with the table that is there.
    root : Path
        Folder that the names of masks and maps are relative to.
    threshold : float
        A pixel is a defect where its map is greater.
    """

    def __init__(self, options: Namespace, root: Path, threshold: float) -> None:
        self._options = options
        self._root = root
        self._threshold = threshold

    def __enter__(self) -> Self:
        self._options.output.mkdir(parents=True, exist_ok=True)
        table = self._options.output / TABLE
        goes_on = self._options.watch and table.is_file()
        self._file = table.open("a" if goes_on else "w", **_AS_TEXT)
        self._writer = csv.DictWriter(self._file, COLUMNS, restval="")
        if not goes_on:
            self._write(dict(zip(COLUMNS, COLUMNS, strict=True)))
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, path: str, found: np.ndarray | Exception) -> Row:
        """Write what was found in an image: its map (h, w), or an error."""
        row: Row = {"path": path, "label": ""}
        if isinstance(found, Exception):
            row["error"] = one_line(found)
        else:
            mask = found > self._threshold
            row |= {"score": f"{found.max():.6g}", **describe(mask)}
            if self._options.masks:
                self._store(path, "masks", ".png", "PNG", mask.astype(np.uint8) * 255)
            if self._options.maps:
                self._store(path, "maps", ".tiff", "TIFF", found.astype(np.float32))
        self._write(row)
        return row

    def _write(self, row: Row) -> None:
        self._writer.writerow(row)
        self._file.flush()

    def _store(self, path: str, kind: str, ending: str, format_: str, pixels: np.ndarray) -> None:
        place = self._options.output / kind / os.path.relpath(path, self._root)
        # x.png and x.jpg may lie side by side.
        if place.suffix.lower() != ending:
            place = place.with_name(place.name + ending)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary:
            Image.fromarray(pixels).save(temporary, format_)


def earlier_paths(table: Path) -> list[str]:
    """The images of a table that an earlier inspection wrote, if there is one."""
    if not table.is_file():
        return []
    with table.open(**_AS_TEXT) as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{str(table)!r} is no table of results; choose another folder.")
        return [row["path"] for row in reader]


def describe(mask: np.ndarray) -> Row:
    """Label of a mask (h, w), and number, area and largest box of its connected regions."""
    regions, n_defects = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    if n_defects == 0:
        return {"label": "good", "n_defects": 0, "defect_area": 0}
    areas = np.bincount(regions.ravel())[1:]
    rows, columns = ndimage.find_objects(regions)[areas.argmax()]
    return {
        "label": "defect",
        "n_defects": n_defects,
        "defect_area": int(areas.sum()),
        "x": columns.start,
        "y": rows.start,
        "width": columns.stop - columns.start,
        "height": rows.stop - rows.start,
    }
