"""Pictures, maps and masks of a few kilobytes each, as text for an HTML file."""

from __future__ import annotations

import base64
import io
import math
import zlib

import numpy as np
from PIL import Image

# Longest side of a picture. Small ones can be fine; the grain of large ones needs pixels more than
# it needs quality.
_PICTURE_SIDE, _FINE, _COARSE = 640, 85, 50


def encode_picture(unit: np.ndarray, max_bytes: int) -> str:
    """A picture (h, w) or (h, w, 3) in [0, 1] as WebP, reduced until it fits into `max_bytes`."""
    pixels = Image.fromarray(np.round(unit * 255).astype(np.uint8))
    side, quality = _PICTURE_SIDE, _FINE
    while True:
        picture = pixels.copy()
        picture.thumbnail((side, side))
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality)
        if file.tell() <= max_bytes or side == 1:
            return base64.b64encode(file.getvalue()).decode()
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
