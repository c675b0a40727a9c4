"""What `ssimae inspect` writes: the table, masks and maps."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image
from scipy import ndimage

from sklearn_ssimae._cli.main import one_line
from sklearn_ssimae._cli.table import TABLE, Row, Table
from sklearn_ssimae._images.files import IMAGE_SUFFIXES
from sklearn_ssimae._writing import replacing

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
        table = Table(self._options.output / TABLE, goes_on=bool(self._options.watch))
        self._table = table.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._table.__exit__(*_)

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
        self._table.add(row)
        return row

    def _store(self, path: str, kind: str, ending: str, format_: str, pixels: np.ndarray) -> None:
        name = Path(os.path.relpath(path, self._root))
        place = self._options.output / kind / name.with_name(stored_name(name.name, ending))
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary:
            Image.fromarray(pixels).save(temporary, format_)


def stored_name(name: str, ending: str) -> str:
    """The name of an image's mask or map: the image's own, with the ending added.

    It is not added to a name that ends so already, unless what stands before it is the name of an
    image: the mask of x.png is x.png, of x.jpg it is x.jpg.png, and of x.jpg.png, which may lie
    beside it, x.jpg.png.png.
    """
    stem, suffix = os.path.splitext(name)
    may_lie_beside = os.path.splitext(stem)[1].lower() in IMAGE_SUFFIXES
    return name if suffix.lower() == ending and not may_lie_beside else name + ending


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
