"""Image files: how their pixels are decoded."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

# Pillow's modes that hold what they show. The others are converted first.
_READ_AS = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L"}


def is_path(item: Any) -> bool:
    """Whether an item of a sequence names a file."""
    return isinstance(item, (str, os.PathLike))


def read_file(path: Any, index: int) -> np.ndarray:
    """The pixels of a file, turned upright; alpha is dropped, palettes are resolved."""
    try:
        with Image.open(path) as file:
            file.load()
            upright = ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image {index} is gone: {os.fspath(path)!r}.") from error
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise OSError(f"image {index} cannot be read: {os.fspath(path)!r}: {error}") from error
    mode = upright.mode
    if mode == "LAB":  # its a and b are no brightness, and Pillow converts it to nothing
        raise OSError(
            f"image {index} is in the colour mode LAB: {os.fspath(path)!r}. Save it as RGB."
        )
    if mode == "P" and not _is_colourful(upright):
        return np.asarray(upright.convert("L"))
    return np.asarray(upright.convert(_READ_AS[mode]) if mode in _READ_AS else upright)


def _is_colourful(palette_image: Image.Image) -> bool:
    rgb = np.asarray(palette_image.convert("RGB"))
    return bool((rgb != rgb[..., :1]).any())
