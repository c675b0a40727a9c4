"""From images to cards: scores first, then what the page shows of the most anomalous."""

from __future__ import annotations

import heapq
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae.inspection._plotting import visible
from sklearn_ssimae.inspection._report.images import encode_bytes, encode_picture, pool
from sklearn_ssimae.inspection._report.scale import Scale
from sklearn_ssimae.metrics import Images, as_mask

# Longest side of a map in the file. At it the maps of most images fit into their bytes.
_MAP_SIDE = 320
# Bytes of an image's parts, 60 kB together when they are written as text.
_PHOTO_BYTES, _RECONSTRUCTION_BYTES, _MAP_BYTES = 19_000, 5_000, 19_000
# Images that are reconstructed at once: small ones fill the network's batches together, large
# ones are few.
_BLOCK_PIXELS = 2**20


@dataclass(frozen=True)
class Shown:
    """What is kept of an image that will be shown: its map and its mask, pooled by `factor`."""

    index: int
    score: float
    shape: tuple[int, ...]
    factor: int
    residual: np.ndarray
    mask: np.ndarray | None


def inspect(
    detector: Any, images: ImageCollection, masks: Images | None, max_images: int
) -> tuple[np.ndarray, list[Shown]]:
    """The scores of all images, and the most anomalous images, in falling order."""
    scores: list[float] = []
    heap: list[tuple[float, int, Shown]] = []
    for index, residual in enumerate(detector._maps(images)):
        mask = None if masks is None else _mask(masks, index, residual.shape)
        scores.append(float(residual.max()))
        if len(heap) == max_images and scores[-1] <= heap[0][0]:
            continue
        factor = -(-max(residual.shape) // _MAP_SIDE)
        shown = Shown(
            index,
            scores[-1],
            residual.shape,
            factor,
            pool(residual, factor),
            None if mask is None else pool(mask, factor),
        )
        # Of equal scores the earlier image is kept, and comes first.
        add = heapq.heappush if len(heap) < max_images else heapq.heapreplace
        add(heap, (shown.score, -index, shown))
    return np.array(scores), [shown for *_, shown in sorted(heap, reverse=True)]


def _mask(masks: Images, index: int, shape: tuple[int, ...]) -> np.ndarray:
    mask = as_mask(masks[index], index, "masks")
    if mask.shape != shape:
        raise ValueError(f"masks[{index}] has the shape {mask.shape}, its image {shape}.")
    return mask


def make_cards(
    detector: Any, images: ImageCollection, shown: list[Shown], scale: Scale
) -> Iterator[dict[str, Any]]:
    """What the page needs of each image that is shown."""
    for block in _blocks(shown):
        pictures = [images[item.index] for item in block]
        with warnings.catch_warnings():
            # Of values out of range, say: that was said when the images were inspected.
            warnings.simplefilter("ignore", UserWarning)
            reconstructions = detector.reconstruct(pictures)
        for item, picture, reconstruction in zip(block, pictures, reconstructions, strict=True):
            photo = visible(picture, detector.data_range_)
            redrawn = visible(reconstruction, detector.data_range_)
            yield {
                "index": item.index,
                "score": item.score,
                "shape": item.shape,
                "payload": {
                    "shape": item.shape,
                    "photo": encode_picture(photo, _PHOTO_BYTES),
                    "reconstruction": encode_picture(redrawn, _RECONSTRUCTION_BYTES),
                    **_encode_planes(item, scale),
                },
            }


def _blocks(shown: list[Shown]) -> Iterator[list[Shown]]:
    """Consecutive images of about `_BLOCK_PIXELS` together."""
    block: list[Shown] = []
    n_pixels = 0
    for item in shown:
        block.append(item)
        n_pixels += math.prod(item.shape)
        if n_pixels >= _BLOCK_PIXELS:
            yield block
            block, n_pixels = [], 0
    if block:
        yield block


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
