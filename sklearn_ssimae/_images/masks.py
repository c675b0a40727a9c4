"""Mask files: which pixels they mark as a defect."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image

from sklearn_ssimae._images.files import check_pages, naming, opened, read_planes, upright

# Formats that blur what is drawn: black is no longer 0 beside a defect.
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
# Numbers that are compared as they are; other modes are compared as colours.
_NUMBERS = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_INDICES = ("P", "PA")


def read_mask(path: Any) -> np.ndarray:
    """The defect in a mask file: bool (h, w), True wherever the file is not black.

    In a file of indices whose colours do not tell (all black, or none black) it is wherever the
    index is not 0; in one that is transparent in places, wherever it is opaque. In a file that was
    compressed with loss, it is what exceeds half of the greatest value.

    Raises
    ------
    OSError
        For a file that cannot be read; the message names it.
    """
    with naming(path):
        planes = read_planes(path)
        if planes is not None:
            return _over_channels(planes > 0)
        with opened(path) as picture:
            check_pages(picture)
            return _marked(upright(picture), is_lossy=picture.format in _LOSSY)


def warn_of_odd_mask(mask: np.ndarray, path: Any) -> None:
    """Warn of the mask of a defect that marks nothing, or that looks inverted."""
    name = os.fspath(path)
    if not mask.any():
        warnings.warn(
            f"{name} marks no pixel, and its image is filed under a type of defect. Draw the "
            "defect in white on black, or file the image under 'good'.",
            UserWarning,
            stacklevel=3,
        )
    elif mask.mean() > 0.5 and mask[[0, 0, -1, -1], [0, -1, 0, -1]].all():
        warnings.warn(
            f"{name} marks {mask.mean():.0%} of its pixels as a defect, the corners among them. "
            "White marks a defect: if black was meant to, invert the file.",
            UserWarning,
            stacklevel=3,
        )


def _marked(picture: Image.Image, *, is_lossy: bool) -> np.ndarray:
    values = np.asarray(picture if picture.mode in _NUMBERS else picture.convert("RGB"))
    is_bright = _over_channels(values > (values.max() / 2 if is_lossy else 0))
    if picture.mode in _INDICES and (is_bright.all() or not is_bright.any()):
        indices = np.asarray(picture)
        is_bright = (indices if indices.ndim == 2 else indices[..., 0]) > 0
    is_opaque = _opaque(picture)
    if is_opaque.all() or not is_opaque.any():
        return is_bright
    tells = is_bright[is_opaque].any() and not is_bright[is_opaque].all()
    return is_opaque & is_bright if tells else is_opaque


def _opaque(picture: Image.Image) -> np.ndarray:
    """Where something can be seen of a picture: everywhere, if it has no transparency."""
    if not picture.has_transparency_data or picture.mode in ("I", "F", *_NUMBERS[4:]):
        return np.ones(picture.size[::-1], dtype=bool)
    return np.asarray(picture.convert("RGBA"))[..., 3] > 0


def _over_channels(marked: np.ndarray) -> np.ndarray:
    return marked if marked.ndim == 2 else np.asarray(marked.any(axis=-1))
