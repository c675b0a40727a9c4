"""What `ssimae inspect` writes: the tables, masks and maps."""

from __future__ import annotations

import os
from argparse import Namespace
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from sklearn_ssimae._cli.arrivals import place_of
from sklearn_ssimae._cli.main import one_line
from sklearn_ssimae._cli.table import (
    DEFECTS,
    TABLE,
    Form,
    Row,
    Table,
    defects_layout,
    form_for_excel,
    go_on_with,
    paths_in,
    results_layout,
)
from sklearn_ssimae._images.files import IMAGE_SUFFIXES
from sklearn_ssimae._writing import replacing, sha256_of
from sklearn_ssimae.inspection._defects import measure

# Digits of the detector's SHA-256: enough to tell files apart.
_N_DIGITS = 12


class Results:
    """The output folder of an inspection; its tables are written image by image.

    The table of defects holds those of the last inspection of each image. They are written before
    the image's row in the table of results: what is in the latter is complete.

    Parameters
    ----------
    options : Namespace
        ``detector``, its file; ``output``, the folder; ``masks`` and ``maps``, whether to write
        them; ``watch``, whether to go on with the tables that are there; ``excel``, their form;
        ``mm_per_pixel``.
    root : Path
        Folder that the names of masks and maps are relative to.
    detector : detector
        A pixel is a defect where its map is greater than its threshold.
    """

    def __init__(self, options: Namespace, root: Path, detector: Any) -> None:
        self._options = options
        self._root = root
        self._threshold = threshold = detector.threshold_
        self._learnt = detector._calibration
        # Kept images tell nothing of another map than theirs.
        self._has_p = self._learnt.levels is not None and not detector._changes_of_map()
        self._trace = {
            "threshold": f"{threshold:.6g}",
            "detector": options.detector.name,
            "detector_sha256": sha256_of(options.detector)[:_N_DIGITS],
        }
        form = form_for_excel() if options.excel else Form()
        in_millimetres = options.mm_per_pixel is not None
        self._paths = options.output / TABLE, options.output / DEFECTS
        self._layouts = results_layout(form), defects_layout(form, in_millimetres=in_millimetres)

    def inspected_before(self) -> list[str]:
        """The images that the tables hold, which are mended."""
        return go_on_with(self._paths[0], self._layouts[0], self._paths[1], self._layouts[1])

    def __enter__(self) -> Self:
        self._options.output.mkdir(parents=True, exist_ok=True)
        goes_on = bool(self._options.watch)
        self._with_defects = paths_in(self._paths[1], self._layouts[1]) if goes_on else set()
        with ExitStack() as stack:
            self._table, self._defects = (
                stack.enter_context(Table(path, layout, goes_on=goes_on))
                for path, layout in zip(self._paths, self._layouts, strict=True)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, path: str, found: np.ndarray | Exception) -> Row:
        """Write what was found in an image: its map (h, w), or an error."""
        row: Row = {"path": path, "label": "", "time": now(), **self._trace}
        if isinstance(found, Exception):
            row["error"] = one_line(found)
            self._store_defects(path, [])
        else:
            mask = found > self._threshold
            defects = measure(found, self._threshold, self._options.mm_per_pixel)
            self._store_defects(path, _as_rows(path, defects))
            row |= {"score": f"{found.max():.6g}", "p": self._p(found), **describe(defects)}
            if self._options.masks:
                self._store(path, "masks", ".png", "PNG", mask.astype(np.uint8) * 255)
            if self._options.maps:
                self._store(path, "maps", ".tiff", "TIFF", found.astype(np.float32))
        self._table.add(row)
        return row

    def _p(self, residual: np.ndarray) -> str:
        """p-value of an image with that map; none where no good images were kept."""
        if not self._has_p:
            return ""
        (p,) = self._learnt.levels.p_values(np.array([residual.max()]), self._learnt.rate)
        # All digits: rounded, the rarest of 99 would not be below 1 %.
        return repr(float(p))

    def _store_defects(self, path: str, rows: list[Row]) -> None:
        """Write the defects of an image, and remove those of an earlier inspection."""
        place = place_of(path)
        if place in self._with_defects:
            self._defects.remove(path)
            self._with_defects.discard(place)
        if rows:
            self._defects.add(*rows)
            self._with_defects.add(place)

    def _store(self, path: str, kind: str, ending: str, format_: str, pixels: np.ndarray) -> None:
        name = Path(os.path.relpath(path, self._root))
        place = self._options.output / kind / name.with_name(stored_name(name.name, ending))
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary:
            Image.fromarray(pixels).save(temporary, format_)


def now() -> str:
    """The time (UTC), as in all that is written."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _as_rows(path: str, table: dict[str, np.ndarray]) -> list[Row]:
    """A row of each defect of an image, of the columns of `measure`."""
    return [
        {"path": path, **dict(zip(table, map(_as_field, values), strict=True))}
        for values in zip(*table.values(), strict=True)
    ]


def _as_field(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, np.floating) else value


def stored_name(name: str, ending: str) -> str:
    """The name of an image's mask or map: the image's own, with the ending added.

    It is not added to a name that ends so already, unless what stands before it is the name of an
    image: the mask of x.png is x.png, of x.jpg it is x.jpg.png, and of x.jpg.png, which may lie
    beside it, x.jpg.png.png.
    """
    stem, suffix = os.path.splitext(name)
    may_lie_beside = os.path.splitext(stem)[1].lower() in IMAGE_SUFFIXES
    return name if suffix.lower() == ending and not may_lie_beside else name + ending


def describe(defects: dict[str, np.ndarray]) -> Row:
    """Label of an image, number and area of its defects, as of `measure`, the largest one's box."""
    areas = defects["area"]
    if len(areas) == 0:
        return {"label": "good", "n_defects": 0, "defect_area": 0}
    box = ("top", "left", "bottom", "right")
    top, left, bottom, right = (int(defects[side][areas.argmax()]) for side in box)
    return {
        "label": "defect",
        "n_defects": len(areas),
        "defect_area": int(areas.sum()),
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
    }
