"""Defects in the format of COCO, which labelling tools and pycocotools read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from sklearn_ssimae import __version__
from sklearn_ssimae._cli.arrivals import place_of
from sklearn_ssimae._cli.results import now
from sklearn_ssimae._maps.areas import EIGHT_NEIGHBOURS

_DEFECT = 1


class Coco:
    """The images that were inspected and their defects; of each image the last inspection.

    Parameters
    ----------
    root : Path
        Folder that the names of the images are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._images: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}

    def add(self, path: str, residual: np.ndarray, threshold: float) -> None:
        """Add an image by its map (h, w)."""
        height, width = residual.shape
        name = Path(os.path.relpath(path, self._root)).as_posix()
        image = {"file_name": name, "width": width, "height": height}
        self._images[place_of(path)] = image, defects_in(residual, threshold)

    def write(self, file: Path) -> None:
        """Write all images. Their numbers begin at 1, as those of the defects."""
        images: list[dict[str, Any]] = []
        defects: list[dict[str, Any]] = []
        for number, (image, found) in enumerate(self._images.values(), start=1):
            images.append({"id": number, **image})
            for defect in found:
                defects.append({"id": len(defects) + 1, "image_id": number, **defect})
        content = {
            "info": {
                "description": "Defects found by ssimae inspect",
                "version": f"sklearn-ssimae {__version__}",
                "date_created": now(),
            },
            "images": images,
            "categories": [{"id": _DEFECT, "name": "defect"}],
            "annotations": defects,
        }
        file.write_text(json.dumps(content) + "\n", encoding="utf-8")


def defects_in(residual: np.ndarray, threshold: float) -> list[dict[str, Any]]:
    """The defects of a map (h, w), without the numbers of image and defect."""
    regions, _ = ndimage.label(residual > threshold, structure=EIGHT_NEIGHBOURS)
    found = []
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        rows, columns = box
        inside = regions[box] == number
        counts = run_lengths(inside, rows.start, columns.start, residual.shape)
        found.append(
            {
                "category_id": _DEFECT,
                "bbox": [columns.start, rows.start, inside.shape[1], inside.shape[0]],
                "area": int(inside.sum()),
                "segmentation": {"size": list(residual.shape), "counts": counts},
                "iscrowd": 0,
                "score": float(residual[box][inside].max()),
            }
        )
    return found


def run_lengths(inside: np.ndarray, top: int, left: int, shape: tuple[int, ...]) -> list[int]:
    """Lengths of the runs outside and inside in turn, column by column, beginning outside.

    Parameters
    ----------
    inside : bool ndarray
        The mask in its box; at least one pixel is True.
    top, left : int
        Where the box begins.
    shape : tuple of int
        (h, w) of the image.
    """
    height, width = shape
    columns, rows = np.nonzero(inside.T)
    places = (columns + left) * height + rows + top
    starts = places[np.diff(places, prepend=-2) != 1]
    ends = places[np.diff(places, append=height * width + 1) != 1] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    return [int(n) for n in np.diff(edges, prepend=0, append=height * width)]
