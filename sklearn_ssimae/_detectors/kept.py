"""Good images that were kept from training, as the calibration takes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from sklearn_ssimae._deciding.calibration import Extent
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.values import Preparation
from sklearn_ssimae._training.division import Part


class KeptParts:
    """Good images, or regions of them, one at a time.

    Parameters
    ----------
    images : ImageCollection
    parts : list of Part
    prepare : Preparation
    """

    def __init__(self, images: ImageCollection, parts: list[Part], prepare: Preparation) -> None:
        self.images = images
        self.parts = parts
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Extent, Tensor]]:
        """Extents of finished maps, and planes at the network's scale, as `Preparation.of`."""
        for part in self.parts:
            yield self._load(part)

    def _load(self, part: Part) -> tuple[Extent, Tensor]:
        whole = self.prepare.of(self.images, part.image)
        planes = part.of(whole)
        size = planes.shape[1:] if part.is_region else self.images[part.image].shape[:2]
        height, width = size
        share = self.prepare.scale**-2 if part.is_region else 1.0
        return Extent((height, width), part.sides(whole), share), planes

    def n_pixels(self) -> float | None:
        """Mean pixels of the whole images at the network's scale; None if they are whole."""
        if not any(part.is_region for part in self.parts):
            return None
        sizes = [self.prepare.of(self.images, part.image)[0].numel() for part in self.parts]
        return float(np.mean(sizes))
