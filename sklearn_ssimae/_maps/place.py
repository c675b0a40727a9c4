"""The residual of good images by place: in each column, in each row.

A photograph of one camera holds more than the material: a table beside the cloth, a selvage, a
rail. The network draws them badly wherever they lie, and they lie at the same place in every image.
Divided by what good images show in the same column or row, they count no more than the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from torch import Tensor

from sklearn_ssimae._maps.border import LEAST, QUANTILE

# Window of the maximum, and σ of the Gaussian, that widen a profile, as shares of the patch's side:
# a selvage wanders by some pixels from image to image.
_WIDE = 1 / 2
_SIGMA = 1 / 4

#: Which axes have a profile: of the columns, of the rows.
Axes = tuple[bool, bool]
NO_AXES: Axes = (False, False)
COLUMNS: Axes = (True, False)
ROWS: Axes = (False, True)
BOTH: Axes = (True, True)


class PlaceProfile:
    """A high quantile of good images' residual as a function of column and row.

    Parameters
    ----------
    columns : array of shape (w,) or None
        Logarithm of the quantile in each column, less its median; None: columns are alike.
    rows : array of shape (h,) or None
        The same of the rows, after the columns.
    logarithmic : bool, default=False
        Whether residuals are logarithms, and the profiles differences.
    """

    def __init__(
        self, columns: np.ndarray | None, rows: np.ndarray | None, *, logarithmic: bool = False
    ) -> None:
        self.columns, self.rows = (
            # A copy: torch takes no memory that cannot be written to, such as a mapped file's.
            None if profile is None else np.array(profile, dtype=np.float32)
            for profile in (columns, rows)
        )
        self.logarithmic = logarithmic

    @classmethod
    def fit(
        cls, maps: Sequence[Tensor], axes: Axes, *, patch_size: int, logarithmic: bool = False
    ) -> Self:
        """Learn the profiles from residual maps (h, w) of good images, all of one size.

        Values that are not a number do not count.

        Notes
        -----
        In each column the 95 % quantile of all maps together, widened by a maximum over half a
        patch and smoothed by a Gaussian whose σ is a quarter of one.
        """
        if not any(axes):
            return cls(None, None, logarithmic=logarithmic)
        stack = np.stack([residual.cpu().numpy() for residual in maps])
        logs = stack if logarithmic else np.log(stack.clip(LEAST))
        columns = _profile(logs, (0, 1), patch_size) if axes[0] else None
        left = logs if columns is None else logs - columns
        rows = _profile(left, (0, 2), patch_size) if axes[1] else None
        return cls(columns, rows, logarithmic=logarithmic)

    @property
    def axes(self) -> Axes:
        """Which axes have a profile."""
        return self.columns is not None, self.rows is not None

    def relative(self, residual: Tensor) -> Tensor:
        """Maps (..., h, w) relative to the profile, of the same shape.

        The ratio to it; of logarithms the difference. An axis of another length than that of the
        images learnt from has no profile. Operations that an exporter can follow.
        """
        height, width = residual.shape[-2:]
        for profile, length, shape in (
            (self.columns, width, (1, -1)),
            (self.rows, height, (-1, 1)),
        ):
            if profile is not None and len(profile) == length:
                along = torch.from_numpy(profile).to(residual).view(shape)
                residual = residual - along if self.logarithmic else residual / along.exp()
        return residual


def _profile(logs: np.ndarray, over: tuple[int, int], patch_size: int) -> np.ndarray:
    """The quantile of maps (n, h, w) along an axis, wide and smooth, less its median."""
    quantiles = np.full(logs.shape[3 - sum(over)], np.nan)
    counts = ~np.isnan(logs).all(axis=over)
    # As a rule everything counts, and then they come at once.
    quantile = np.nanquantile if np.isnan(logs).any() else np.quantile
    values = np.moveaxis(logs, over, (-2, -1))[counts]
    quantiles[counts] = quantile(values.reshape(len(values), -1), QUANTILE, axis=1)
    # Where nothing counts, as beside it.
    places = np.arange(len(quantiles))
    quantiles = np.interp(places, places[counts], quantiles[counts])
    wide = maximum_filter1d(quantiles, 2 * int(_WIDE * patch_size / 2) + 1, mode="nearest")
    smooth = gaussian_filter1d(wide, _SIGMA * patch_size, mode="nearest")
    return np.asarray(smooth - np.median(smooth))
