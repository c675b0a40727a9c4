"""One pass through the network for both: the map of an image, and its reconstruction."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.values import output_dtype
from sklearn_ssimae._maps.filters import resize


@dataclass(frozen=True)
class Seen:
    """An image that went through the network.

    Parameters
    ----------
    image : ndarray of shape (h, w, c)
    counts : bool ndarray of shape (h, w) or None
        Which of its pixels count; None for all.
    residual : ndarray of shape (h, w)
        Its map.
    values : Tensor of shape (c, h', w') or None
        Its reconstruction in [0, 1], at the network's scale; None if the map did not need one of
        the whole image.
    """

    image: np.ndarray
    counts: np.ndarray | None
    residual: np.ndarray
    values: Tensor | None

    def reconstruction(self, detector: Any) -> np.ndarray:
        """The reconstruction (h, w, c) as `reconstruct` of the detector gives it."""
        if self.values is None:
            with warnings.catch_warnings():
                # Of values out of range, say: that was said when the map was made.
                warnings.simplefilter("ignore", UserWarning)
                return np.asarray(detector.reconstruct([self.image])[0])
        full = resize(self.values, self.image.shape[:2]).permute(1, 2, 0).cpu().numpy()
        low, high = detector._preparation().range_of(self.image, "")
        return full.astype(output_dtype(self.image)) * (high - low) + low


def see(detector: Any, images: ImageCollection) -> Iterator[Seen]:
    """Each image with its map, as `transform` gives it, and what its reconstruction needs."""
    are_reconstructions = detector._make_comparison().averages_reconstructions
    for given, residual, values in detector._maps_and_values(images):
        yield Seen(given.image, given.counts, residual, values if are_reconstructions else None)
