"""What a fit decides once the network is trained: the map, and the threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sklearn_ssimae._deciding.calibration import Calibration
from sklearn_ssimae._detectors.kept import KeptParts
from sklearn_ssimae._detectors.trainee import Trainee
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._training.division import Division

#: Images that a threshold is learnt from, at most; a random choice if there are more.
MAX_IMAGES = 1000


def decide(
    detector: Trainee, images: ImageCollection, division: Division, seed: int
) -> Calibration:
    """The map, its profiles and the threshold, of a trained network.

    From what was kept from training; from what was trained on if nothing was.
    """
    rng = np.random.default_rng(seed)
    learnt = detector._uncalibrated()
    if detector._learns_from_kept():
        parts = division.kept or division.trained
        parts = [parts[index] for index in _some(len(parts), rng)]
        kept = KeptParts(images, parts, detector._preparation(), detector._variation())
        learnt = detector._calibrated(kept, rng=rng)
    if detector.contamination != "auto" and detector.threshold is None:
        indices = np.unique([part.image for parts in division for part in parts])
        indices = indices[_some(len(indices), rng)]
        share = float(detector.contamination)
        learnt = _with_share_above(detector, learnt, images.take(indices), share)
    return learnt


def _some(n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of so many images; of a random choice if there are too many."""
    return np.arange(n) if n <= MAX_IMAGES else np.sort(rng.choice(n, MAX_IMAGES, replace=False))


def _with_share_above(
    detector: Trainee, learnt: Calibration, images: ImageCollection, share: float
) -> Calibration:
    """With the threshold above which that share of the training images lies."""
    maker = detector._map_maker(detector._map_settings(learnt))
    threshold = -float(np.percentile(detector._score_samples(images, maker), 100 * share))
    rests_on = (
        f"threshold {threshold:.4g}: exceeded by {share:.3g} of {len(images)} training images"
    )
    learnt_for = detector._depends_on(learnt)
    return replace(learnt, threshold=threshold, rests_on=rests_on, learnt_for=learnt_for)
