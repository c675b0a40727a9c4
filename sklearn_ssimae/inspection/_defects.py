"""Defects as a table: where each one is, how large, how strong."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from skimage.measure import label, regionprops_table

from sklearn_ssimae._networks.own_state import own_state

# Names in the table, by those of scikit-image.
_MEASURED = {
    "area": "area",
    "bbox-0": "top",
    "bbox-1": "left",
    "bbox-2": "bottom",
    "bbox-3": "right",
    "centroid-0": "centroid_row",
    "centroid-1": "centroid_column",
    "axis_major_length": "longer_axis",
    "axis_minor_length": "shorter_axis",
    "orientation": "orientation",
    "intensity_max": "peak",
    "intensity_mean": "mean",
}
_PROPERTIES = tuple(dict.fromkeys(name.split("-")[0] for name in _MEASURED))
_LENGTHS = ("centroid_row", "centroid_column", "longer_axis", "shorter_axis")


@own_state()
def find_defects(
    detector: Any, X: Any, *, mm_per_pixel: float | None = None
) -> dict[str, np.ndarray]:
    """The defects in images, a row each.

    Parameters
    ----------
    detector : detector
        A fitted detector of this package.
    X : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
        Images, as for the detector's `transform`.
    mm_per_pixel : float, default=None
        Side of a pixel in millimetres; adds columns in millimetres.

    Returns
    -------
    defects : dict of arrays of shape (n_defects,)
        Columns of a table, which ``pandas.DataFrame(defects)`` takes:

        - ``image``: index of the image in X;
        - ``area``: pixels;
        - ``top``, ``left``, ``bottom``, ``right``: the box, in pixels; the last two lie one pixel
          beyond it;
        - ``centroid_row``, ``centroid_column``: pixels;
        - ``longer_axis``, ``shorter_axis``: of the ellipse with the same second moments, pixels;
        - ``orientation``: degrees in [-90, 90) from the downward direction to the longer axis,
          counter-clockwise;
        - ``peak``, ``mean``: of the residual map over the region;
        - ``touches_border``: whether the region reaches the image's border, and may go on beyond;
        - with `mm_per_pixel`: ``area_mm2``, ``centroid_row_mm``, ``centroid_column_mm``,
          ``longer_axis_mm``, ``shorter_axis_mm``.

        A defect is a region of pixels of which the map exceeds `threshold_`; pixels that share an
        edge or a corner belong to one region.

    Raises
    ------
    TypeError
        When `detector` is no detector of this package.
    ValueError
        When `mm_per_pixel` is not above 0, and as `transform`.

    Notes
    -----
    Measured by :func:`skimage.measure.regionprops_table`. Set the detector's `min_area` to leave
    out small regions.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> from sklearn_ssimae.inspection import find_defects
    >>> stripes = np.tile(0.5 + 0.3 * np.sin(np.arange(64)), (3, 64, 1))
    >>> detector = L2AutoencoderDetector(
    ...     patch_size=32, latent_dim=4, n_patches=100, max_iter=5, random_state=0
    ... ).fit(stripes)
    >>> stripes[2, 20:32, 24:40] = 1
    >>> defects = find_defects(detector, stripes[2:], mm_per_pixel=0.1)
    >>> bool(20 < defects["centroid_row"][0] < 32 and defects["longer_axis_mm"][0] > 1)
    True
    """
    check_detector(detector, "find_defects")
    check_mm_per_pixel(mm_per_pixel)
    images = detector._check_fitted_input(X)
    threshold = detector.threshold_
    tables = [
        {"image": np.full(len(table["area"]), index), **table}
        for index, table in enumerate(
            measure(residual, threshold, mm_per_pixel) for residual in detector._maps(images)
        )
    ]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def measure(
    residual: np.ndarray, threshold: float, mm_per_pixel: float | None = None
) -> dict[str, np.ndarray]:
    """The columns of `find_defects` of one map (h, w), without the first."""
    regions = label(residual > threshold, connectivity=2)
    found = regionprops_table(regions, residual, properties=_PROPERTIES)
    table = {ours: found[theirs] for theirs, ours in _MEASURED.items()}
    table["area"] = table["area"].astype(np.intp)
    table["orientation"] = np.degrees(table["orientation"])
    height, width = residual.shape
    table["touches_border"] = (
        (table["top"] == 0)
        | (table["left"] == 0)
        | (table["bottom"] == height)
        | (table["right"] == width)
    )
    if mm_per_pixel is not None:
        table["area_mm2"] = table["area"] * mm_per_pixel**2
        table |= {f"{name}_mm": table[name] * mm_per_pixel for name in _LENGTHS}
    return table


def check_detector(detector: Any, caller: str) -> None:
    """Raise TypeError unless it is a detector of this package."""
    if not hasattr(detector, "_check_fitted_input"):
        raise TypeError(
            f"{caller} needs a fitted detector of this package, got {type(detector).__name__}. "
            "Of a pipeline give the step that is one."
        )


def check_mm_per_pixel(mm_per_pixel: Any) -> None:
    """Refuse what is no length."""
    is_length = isinstance(mm_per_pixel, Real) and 0 < float(mm_per_pixel) < np.inf
    if mm_per_pixel is not None and not is_length:
        raise ValueError(
            "mm_per_pixel must be a number above 0, or None for pixels alone, got "
            f"{mm_per_pixel!r}."
        )
