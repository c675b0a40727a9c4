"""From images to cards: what the page shows of the most anomalous, gathered one at a time."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae.inspection._plotting import dimmed, visible
from sklearn_ssimae.inspection._report.images import (
    FINEST,
    encode,
    encode_bytes,
    encode_picture,
    pool,
)
from sklearn_ssimae.inspection._report.regions import Box, Region, find_regions, parts_to_keep
from sklearn_ssimae.inspection._report.scale import Scale
from sklearn_ssimae.inspection._report.seeing import Seen

MAX_IMAGES = 200

# Longest side of a map in the file. At it the maps of most images fit into their bytes.
_MAP_SIDE = 320
# Bytes of an image's parts, 60 kB together when they are written as text; a crop comes on top.
_PHOTO_BYTES, _RECONSTRUCTION_BYTES, _MAP_BYTES = 18_000, 5_000, 18_000
_CROP_BYTES = 16_000
# Regions that are judged one by one. With more, the image is judged as a whole.
_N_JUDGED = 12


@dataclass(frozen=True)
class Card:
    """What is kept of an image that may be shown; map and mask are pooled by `factor`.

    Attributes
    ----------
    index : int
        Place among all images.
    score : float
    shape : tuple of int
        (h, w) of the image.
    factor : int
    residual, mask : ndarray, the mask None where there is none
    photo : str
    contents : dict
        What else the page reads of the card, as JSON.
    """

    index: int
    score: float
    shape: tuple[int, ...]
    factor: int
    residual: np.ndarray
    mask: np.ndarray | None
    photo: str
    contents: dict[str, Any]

    def payload(self, scale: Scale) -> dict[str, Any]:
        """The contents with map and mask as text, pooled further if the map needs many bytes."""
        residual, mask, factor = self.residual, self.mask, self.factor
        codes = encode_bytes(scale.codes(residual))
        while len(codes) > _MAP_BYTES * 4 / 3 and residual.size > 1:
            residual, factor = pool(residual, 2), 2 * factor
            mask = None if mask is None else pool(mask, 2)
            codes = encode_bytes(scale.codes(residual))
        return {
            **self.contents,
            "shape": self.shape,
            "codes": codes,
            "mask": None if mask is None else encode_bytes(mask),
            "grid": residual.shape,
            "factor": factor,
        }


class Gathering:
    """The scores of all images that were inspected, and cards of the most anomalous.

    Parameters
    ----------
    detector : detector
    max_images : int
        Number of cards at most.

    Attributes
    ----------
    scores : list of float
    on_defect : list of float or None
        The largest residual on the true defect; None where there is no mask or no defect.
    is_dimmed : bool
        Whether an image has pixels that do not count.
    """

    def __init__(self, detector: Any, max_images: int = MAX_IMAGES) -> None:
        self._detector = detector
        self._max_images = max_images
        self._heap: list[tuple[float, int, Card]] = []
        self.scores: list[float] = []
        self.on_defect: list[float | None] = []
        self.is_dimmed = False

    @property
    def has_defect(self) -> list[bool]:
        """Of each image, whether its mask holds a defect."""
        return [value is not None for value in self.on_defect]

    def add(self, images: ImageCollection, index: int, seen: Seen, mask: np.ndarray | None) -> None:
        """Add what was seen of `images[index]`, which is not read again, and its mask."""
        residual = seen.residual
        score, number = float(residual.max()), len(self.scores)
        self.scores.append(score)
        self.is_dimmed |= seen.counts is not None
        has_defect = mask is not None and mask.any()
        self.on_defect.append(float(residual[mask].max()) if has_defect else None)
        if len(self._heap) == self._max_images and score <= self._heap[0][0]:
            return
        card = self._make_card(images, index, number, seen, mask)
        # Of equal scores the earlier image is kept, and comes first.
        push = heapq.heappush if len(self._heap) < self._max_images else heapq.heapreplace
        push(self._heap, (score, -number, card))

    def cards(self) -> list[Card]:
        """The cards of the most anomalous images, in falling order."""
        return [card for *_, card in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]

    def _make_card(
        self,
        images: ImageCollection,
        index: int,
        number: int,
        seen: Seen,
        mask: np.ndarray | None,
    ) -> Card:
        residual = seen.residual
        photo = dimmed(visible(seen.image, self._detector.data_range_), seen.counts)
        picture = encode(photo, _PHOTO_BYTES)
        regions = find_regions(residual, self._detector.threshold_)
        parts = [] if picture.fineness == FINEST else parts_to_keep(residual, regions, mask)
        factor = -(-max(residual.shape) // _MAP_SIDE)
        return Card(
            index=number,
            score=self.scores[-1],
            shape=residual.shape,
            factor=factor,
            residual=pool(residual, factor),
            mask=None if mask is None else pool(mask, factor),
            photo=picture.text,
            contents={
                **_identity(images, index, seen.image),
                "reconstruction": self._reconstruction(seen),
                "crops": list(_crops(photo, parts, picture.fineness)),
                "regions": [_as_row(region) for region in regions[:_N_JUDGED]],
                "nRegions": len(regions),
            },
        )

    def _reconstruction(self, seen: Seen) -> str:
        redrawn = visible(seen.reconstruction(self._detector), self._detector.data_range_)
        return encode_picture(redrawn, _RECONSTRUCTION_BYTES)


def _crops(
    photo: np.ndarray, parts: list[Box], fineness: tuple[float, int]
) -> Iterator[list[int | str]]:
    """Parts of a photograph with their boxes, where they are finer than it is as a whole."""
    for box in parts:
        crop = encode(photo[box.slices], _CROP_BYTES)
        if crop.fineness > fineness:
            yield [*box, crop.text]


def _as_row(region: Region) -> list[float]:
    return [*region.box, region.area, region.peak]


def _identity(images: ImageCollection, index: int, image: np.ndarray) -> dict[str, Any]:
    """What an image is known by: of a file its path, size and hash, of an array the hash."""
    path = os.fspath(images.items[index]) if is_file(images, index) else None
    if path is not None:
        with suppress(OSError), open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"path": path, "bytes": file.tell(), "sha256": digest}
    # An array, or a file that has gone since it was inspected.
    return {"path": path, "bytes": None, "sha256": hashlib.sha256(image.tobytes()).hexdigest()}


def is_file(images: ImageCollection, index: int) -> bool:
    """Whether an image came as a path."""
    return images.kind == "sequence" and isinstance(images.items[index], str | PathLike)


def names_of(images: ImageCollection) -> tuple[str | None, list[str]]:
    """The folder that all files have in common, if any, and paths below it; numbers of arrays."""
    files = [i for i in range(len(images)) if is_file(images, i)]
    paths = {i: os.fspath(images.items[i]) for i in files}
    folder = None
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths.values()])
        paths = {i: os.path.relpath(path, folder or os.curdir) for i, path in paths.items()}
    except ValueError:  # no paths at all, or none in common: relative and absolute, two drives
        pass
    return folder, [paths.get(i, f"image {i}") for i in range(len(images))]


def rows_of(cards: list[Card], scale: Scale, names: list[str]) -> Iterator[dict[str, Any]]:
    """What the template names of each card; maps are written as they are asked for."""
    for card in cards:
        yield {
            "index": card.index,
            "name": names[card.index],
            "score": card.score,
            "shape": card.shape,
            "photo": card.photo,
            "n_regions": card.contents["nRegions"],
            "payload": card.payload(scale),
        }
