"""What is learnt from after the training: good images that were kept from it, and all looks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from sklearn_ssimae._deciding.calibration import Kept
from sklearn_ssimae._deciding.looks import MAX_LOOKED_AT, GoodLooks
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.values import Preparation
from sklearn_ssimae._training.division import Division, Part
from sklearn_ssimae._training.variation import Variation, varied


class KeptParts:
    """Good images, or regions of them, one at a time.

    Parameters
    ----------
    images : ImageCollection
    parts : list of Part
    prepare : Preparation
    variation : Variation, default=None
        How much light and pose of images to come vary, which the kept ones then do, too.
    """

    def __init__(
        self,
        images: ImageCollection,
        parts: list[Part],
        prepare: Preparation,
        variation: Variation | None = None,
    ) -> None:
        self.images = images
        self.parts = parts
        self.prepare = prepare
        self.variation = variation

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Kept, Tensor]]:
        """How each is judged, and its planes at the network's scale, as `Preparation.of`."""
        rng = np.random.default_rng(0)
        for part in self.parts:
            image = self.images[part.image]
            _, planes = self.prepare.read(image, self.images, part.image)
            if self.variation is not None:
                planes = self._varied(planes, part, self.variation, rng)
            if part.is_region:
                height, width = planes.shape[1:]
                yield Kept((height, width), part.box, self.prepare.scale**-2), planes
            else:
                yield Kept(image.shape[:2]), planes

    def _varied(
        self, planes: Tensor, part: Part, variation: Variation, rng: np.random.Generator
    ) -> Tensor:
        """Turned about the middle of the part, so that little comes into it from beside it."""
        height, width = planes.shape[1:]
        (change,) = variation.draw(1, rng)
        rows, columns = (
            range(side)[along] for side, along in zip((height, width), part.box, strict=True)
        )
        centre = ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2)
        return varied(planes, self.prepare.n_channels, change, centre, (height, width))

    def n_pixels(self) -> float | None:
        """Mean pixels of the whole images at the network's scale; None if all of them is kept."""
        if not any(part.is_region for part in self.parts):
            return None
        sizes = [self.prepare.of(self.images, part.image)[0].numel() for part in self.parts]
        return float(np.mean(sizes))


def looks_of(
    images: ImageCollection, division: Division, prepare: Preparation, seed: int
) -> GoodLooks:
    """The looks of all images of a fit, of a random choice if they are many."""
    indices = np.unique([part.image for parts in division for part in parts])
    chosen = np.random.default_rng(seed).permutation(indices)[:MAX_LOOKED_AT].tolist()
    planes = (prepare.of(images, index) for index in chosen)
    return GoodLooks.of(planes, len(chosen), prepare.n_channels)
