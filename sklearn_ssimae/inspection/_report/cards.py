"""From images to cards: scores first, then what the page shows of the most anomalous."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae.inspection._plotting import visible
from sklearn_ssimae.inspection._report.images import encode_bytes, encode_picture, pool
from sklearn_ssimae.inspection._report.scale import Scale
from sklearn_ssimae.inspection._report.seeing import Seen
from sklearn_ssimae.metrics import Images, as_mask

# Longest side of a map in the file. At it the maps of most images fit into their bytes.
_MAP_SIDE = 320
# Bytes of an image's parts, 60 kB together when they are written as text.
_PHOTO_BYTES, _RECONSTRUCTION_BYTES, _MAP_BYTES = 19_000, 5_000, 19_000


@dataclass(frozen=True)
class Shown:
    """What is kept of an image that may be shown: its map and its mask, pooled by `factor`.

    The photograph and the reconstruction are kept as they stand in the file.
    """

    index: int
    score: float
    shape: tuple[int, ...]
    factor: int
    residual: np.ndarray
    mask: np.ndarray | None
    photo: str
    reconstruction: str


class MostAnomalous:
    """The scores of all images, and what is shown of those with the highest ones.

    Images are added one at a time, and none of them is kept.
    """

    def __init__(self, detector: Any, max_images: int) -> None:
        self.scores: list[float] = []
        self._detector = detector
        self._max_images = max_images
        self._heap: list[tuple[float, int, Shown]] = []

    def add(self, seen: Seen, mask: np.ndarray | None) -> None:
        """Take the next image, with its mask (h, w) if there is one."""
        index, score = len(self.scores), float(seen.residual.max())
        self.scores.append(score)
        heap, is_full = self._heap, len(self._heap) == self._max_images
        if is_full and score <= heap[0][0]:
            return
        # Of equal scores the earlier image is kept, and comes first.
        add = heapq.heapreplace if is_full else heapq.heappush
        add(heap, (score, -index, self._show(index, score, seen, mask)))

    def shown(self) -> list[Shown]:
        """The most anomalous images, in falling order."""
        return [shown for *_, shown in sorted(self._heap, reverse=True)]

    def _show(self, index: int, score: float, seen: Seen, mask: np.ndarray | None) -> Shown:
        factor = -(-max(seen.residual.shape) // _MAP_SIDE)
        data_range = self._detector.data_range_
        photo = visible(seen.image, data_range)
        redrawn = visible(seen.reconstruction(self._detector), data_range)
        return Shown(
            index,
            score,
            seen.residual.shape,
            factor,
            pool(seen.residual, factor),
            None if mask is None else pool(mask, factor),
            encode_picture(photo, _PHOTO_BYTES),
            encode_picture(redrawn, _RECONSTRUCTION_BYTES),
        )


def mask_of(masks: Images, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of an image, which must have its shape (h, w)."""
    mask = as_mask(masks[index], index, "masks")
    if mask.shape != shape:
        raise ValueError(f"masks[{index}] has the shape {mask.shape}, its image {shape}.")
    return mask


def make_cards(shown: list[Shown], scale: Scale) -> Iterator[dict[str, Any]]:
    """What the page needs of each image that is shown."""
    for item in shown:
        yield {
            "index": item.index,
            "score": item.score,
            "shape": item.shape,
            "payload": {
                "shape": item.shape,
                "photo": item.photo,
                "reconstruction": item.reconstruction,
                **_encode_planes(item, scale),
            },
        }


def _encode_planes(item: Shown, scale: Scale) -> dict[str, Any]:
    """Map and mask as text, pooled further if the map needs too many bytes."""
    residual, mask, factor = item.residual, item.mask, item.factor
    codes = encode_bytes(scale.codes(residual))
    while len(codes) > _MAP_BYTES * 4 / 3 and residual.size > 1:
        residual, factor = pool(residual, 2), 2 * factor
        mask = None if mask is None else pool(mask, 2)
        codes = encode_bytes(scale.codes(residual))
    return {
        "codes": codes,
        "mask": None if mask is None else encode_bytes(mask),
        "grid": residual.shape,
        "factor": factor,
    }


def names_of(images: ImageCollection) -> list[str]:
    """Paths below the folder that all files have in common; numbers of arrays."""
    items = images.items if images.kind == "sequence" else ()
    paths = {i: os.fspath(item) for i, item in enumerate(items) if isinstance(item, str | PathLike)}
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths.values()])
        paths = {i: os.path.relpath(path, folder or os.curdir) for i, path in paths.items()}
    except ValueError:  # no paths at all, or none in common: relative and absolute, two drives
        pass
    return [paths.get(i, f"image {i}") for i in range(len(images))]
