"""Alpha channels of image files and PIL images: what is transparent does not count."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageOps

from sklearn_ssimae._images.files import UPRIGHT, has_alpha, is_beyond_pillow, is_picture


def opaque_pixels(item: Any) -> np.ndarray | None:
    """Which pixels of a file or a PIL image are not transparent, (h, w); None for all.

    A pixel of which any part shows is not transparent. Files without an alpha channel are not
    decoded.
    """
    if is_picture(item):
        opaque = _opaque(item)
    elif is_beyond_pillow(item):
        opaque = _opaque_of_tiff(item)
    else:
        with Image.open(item) as picture:
            opaque = _opaque(picture)
    return None if opaque is None or opaque.all() else opaque


def _opaque(picture: Image.Image) -> np.ndarray | None:
    if not picture.has_transparency_data:
        return None
    return np.asarray(ImageOps.exif_transpose(picture).convert("RGBA"))[..., 3] > 0


def _opaque_of_tiff(path: Any) -> np.ndarray | None:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if not has_alpha(page):
            return None
        image = page.asarray()
        if "S" in page.axes:
            image = np.moveaxis(image, page.axes.index("S"), -1)
        tag = page.tags.get("Orientation")
    turn = UPRIGHT.get(tag.value if tag is not None else 1, lambda image: image)
    return np.asarray(turn(image[..., -1] > 0))
