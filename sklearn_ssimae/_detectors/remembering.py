"""What a detector remembers of the images that it has learnt: digests, and a few examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from sklearn_ssimae._detectors.trainee import Trainee
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.division import Part
from sklearn_ssimae._training.examples import (
    Examples,
    as_planes,
    n_crops,
    stored_crops,
    stored_windows,
)

# Images that are remembered as trained on, at most.
_MAX_REMEMBERED = 1000


def digests_of(
    images: ImageCollection, parts: Iterable[Part], earlier: np.ndarray | None
) -> np.ndarray:
    """Short digests of images that are trained on, now or earlier."""
    indices = sorted({part.image for part in parts})[:_MAX_REMEMBERED]
    digests = images.short_digests(indices)
    return digests if earlier is None else np.union1d(digests, earlier)[:_MAX_REMEMBERED]


def examples_of(
    detector: Trainee,
    sampler: CropSampler,
    images: ImageCollection,
    kept: list[Part],
    rng: np.random.Generator,
) -> Examples | None:
    """Crops of what is trained on, now or in earlier fits, and what was kept from training."""
    patch_size, n_channels = (detector.network_.config[k] for k in ("patch_size", "n_channels"))
    n_new = n_crops(patch_size, n_channels)
    if not (detector.store_examples and n_new):
        return None
    crops = list(next(sampler.batches(max(detector.n_patches, n_new), n_new)))
    if detector._examples:
        crops += as_planes(detector._examples["crops"])
    prepare = detector._preparation()
    planes: Iterator[Tensor] = (part.of(prepare.of(images, part.image)) for part in kept)
    return {
        "crops": stored_crops(crops, n_channels, rng),
        "kept": stored_windows(planes, len(kept), patch_size, n_channels, rng),
    }
