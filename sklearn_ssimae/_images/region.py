"""The region of interest: which pixels of every image count."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from sklearn_ssimae._images.containers import to_array
from sklearn_ssimae._images.files import is_path, read_file


def read_region(region: Any) -> np.ndarray | None:
    """What the parameter `region` says: a bool array (h, w), True where pixels count, or None.

    Parameters
    ----------
    region : None, array-like of shape (h, w), or path of an image file
        Of two values, the greater of which counts: False and True, 0 and 1, black and white.

    Raises
    ------
    ValueError
        If it has another shape, more values than two, or leaves nothing.
    """
    if region is None:
        return None
    if is_path(region):
        name, array = f"region {os.fspath(region)!r}", _grey(read_file(region))
    else:
        name, array = "region", to_array(region)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"{name} must be an array (h, w) or the path of a mask image, got the shape "
            f"{array.shape}."
        )
    values = np.unique(array)
    if array.dtype.kind not in "biuf" or values[0] < 0 or (values > 0).sum() > 1:
        shown = ", ".join(str(value) for value in values[:4])
        raise ValueError(
            f"{name} must hold 0 where pixels do not count and one other value where they do, got "
            f"{shown}{', …' if len(values) > 4 else ''}. Save a mask image without losses (PNG), "
            "or compare the array with a number."
        )
    if not array.any():
        raise ValueError(f"{name} is 0 everywhere, so no pixel would count. White means inspect.")
    return np.asarray(array > 0)


def _grey(image: np.ndarray) -> np.ndarray:
    """A mask image of three equal channels as one of one channel."""
    if image.ndim == 3 and (image == image[..., :1]).all():
        return image[..., 0]
    return image
