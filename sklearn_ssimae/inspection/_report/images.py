"""Pictures, maps and masks of a few kilobytes each, as text for an HTML file."""

from __future__ import annotations

import base64
import io
import math
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

# Longest side of a picture. Small ones can be fine; the grain of large ones needs pixels more than
# it needs quality.
_PICTURE_SIDE, _FINE, _COARSE = 640, 85, 50


class Picture(NamedTuple):
    """A picture as text, and how fine it is.

    Attributes
    ----------
    text : str
        WebP, in base 64.
    fineness : tuple of float
        Its share of the sides' pixels, and the quality: the greater, the finer.
    """

    text: str
    fineness: tuple[float, int]


FINEST = (1.0, _FINE)


def encode_picture(unit: np.ndarray, max_bytes: int) -> str:
    """The text of `encode`."""
    return encode(unit, max_bytes).text


def encode(unit: np.ndarray, max_bytes: int) -> Picture:
    """A picture (h, w) or (h, w, 3) in [0, 1] as WebP, reduced until it fits into `max_bytes`."""
    pixels = Image.fromarray(np.round(unit * 255).astype(np.uint8))
    side, quality = _PICTURE_SIDE, _FINE
    while True:
        picture = pixels.copy()
        picture.thumbnail((side, side))
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality)
        if file.tell() <= max_bytes or side == 1:
            fineness = max(picture.size) / max(pixels.size), quality
            return Picture(base64.b64encode(file.getvalue()).decode(), fineness)
        if quality == _COARSE:
            # Somewhat less than in proportion: a reduced picture has more in each pixel.
            side = max(1, int(0.9 * max(picture.size) * math.sqrt(max_bytes / file.tell())))
        quality = _COARSE


def pool(plane: np.ndarray, factor: int) -> np.ndarray:
    """Largest value of each block of factor × factor pixels, those at the border being smaller."""
    starts = [np.arange(0, side, factor) for side in plane.shape]
    return np.maximum.reduceat(np.maximum.reduceat(plane, starts[0]), starts[1], axis=1)


def encode_bytes(plane: np.ndarray) -> str:
    """A uint8 or bool plane, without loss: rows as differences to the row above, by zlib."""
    values = plane.astype(np.uint8)
    values[1:] -= values[:-1].copy()
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()
