"""Which defects a detector finds, by kind and size: defects are drawn into good images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from sklearn_ssimae._images.collection import ImageCollection, sequence_of_images
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae.datasets._drawing import MIN_SIDE
from sklearn_ssimae.inspection._defects import check_detector, check_mm_per_pixel
from sklearn_ssimae.inspection._drawn import FADED, KINDS, Drawer, Drawn
from sklearn_ssimae.inspection._pod import fit_curve

# Defects of each kind, and as many faded ones of the kinds that are drawn with less contrast.
_OF_EACH = 120
_DRAWN = _OF_EACH * (len(KINDS) + len(FADED))
# Good images that are drawn into, at least, if there are so many.
_LEAST_IMAGES = 10
# Copies of an image that are drawn before the detector sees them: small ones share batches.
_BATCH = 8


def detectability(
    detector: Any, X: Any, *, mm_per_pixel: float | None = None, random_state: Any = None
) -> dict[str, Bunch]:
    """The sizes of defects that a detector finds, and those that it misses.

    Defects of eight kinds and of all sizes are drawn into good images, and it is counted which of
    them the detector finds at its threshold.

    Parameters
    ----------
    detector : detector
        A fitted detector of this package.
    X : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
        Good images that were not trained on, as for the detector's `transform`.
    mm_per_pixel : float, default=None
        Side of a pixel in millimetres; sizes are then in millimetres.
    random_state : int, RandomState or None, default=None
        Pass an int for the same defects each time.

    Returns
    -------
    found : dict of Bunch
        For each kind, "scratch", "thread", "stain", "dent", "patch", "lump", "blur" and "grain":

        - ``sizes`` (n,): of the defects that were drawn, in pixels of the images: the square root
          of the area. It is about 0.9 diameters of a blot. None are drawn of a kind that
          cannot be seen: flat material shows no patch, blur or grain;
        - ``hits`` (n,): whether a pixel on the defect is marked that is not in the good image;
        - ``contrasts`` (n,): mean absolute change of a defect's pixels, as a share of the
          range from black to white;
        - ``a50``, ``a90``: sizes that are found with a probability of 50 % and 90 %, by a logistic
          curve of the logarithm of the size; nan if no size that was drawn is found so often,
          the least size that was drawn if all are;
        - ``a90_95``: the upper bound of a90 at a confidence of 95 %;
        - ``intercept``, ``slope``: of the curve;
        - ``faded``: Bunch of the sizes, hits and contrasts of defects that were drawn with
          less contrast than those above. Stains and dents alone; else it is empty.

    Raises
    ------
    TypeError
        When `detector` is no detector of this package.
    ValueError
        For images of less than 16 pixels, and as `transform`.

    Warns
    -----
    UserWarning
        When images were trained on, so that the figures are too good to be true, or there is one
        image only, so that its material stands for all.

    See Also
    --------
    DetectabilityDisplay : Draws the curves.
    find_defects : The defects in images.

    Notes
    -----
    a90/95 is the size that non-destructive testing states for an inspection [1]_. It speaks of the
    kinds that are drawn, in the material of the given images: real defects of a kind may
    be harder to see. Compare with real ones where there are some.

    Defects are as visible as :func:`~sklearn_ssimae.datasets.add_synthetic_defects` makes them.
    Blots have radii of 1/64 to 1/2 of the detector's patch; lines have a length and a width in
    proportion to a square of 16 pixels to two patches. Each lies in a square of two patches of its
    own, so that none alters what the network makes of another. Faults of weaving, which
    :func:`~sklearn_ssimae.datasets.make_fabric` draws, change the yarns of a model of cloth, and
    cannot be drawn into images.

    References
    ----------
    .. [1] MIL-HDBK-1823A, "Nondestructive Evaluation System Reliability Assessment", 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> from sklearn_ssimae.inspection import detectability
    >>> phases = np.arange(12)[:, None, None] * np.ones((32, 32))
    >>> stripes = 0.5 + 0.3 * np.sin(np.arange(32) + phases)
    >>> detector = L2AutoencoderDetector(
    ...     patch_size=16, latent_dim=4, n_patches=100, max_iter=5, random_state=0
    ... ).fit(stripes[:8])
    >>> found = detectability(detector, stripes[8:], mm_per_pixel=0.1, random_state=0)
    >>> bool(0.1 < found["lump"].a50 < found["lump"].a90 < 2)
    True
    """
    trials = Trials(detector, X, random_state=random_state)
    for _ in trials:
        pass
    return trials.found(mm_per_pixel)


class Trials:
    """Defects drawn into good images, and whether they were found; an image at a time.

    Parameters
    ----------
    detector, X, random_state
        As in `detectability`.

    Attributes
    ----------
    n_images : int
        Good images that were looked at.
    n_marked : int
        Those of them that are called defective without a drawn defect.
    """

    def __init__(self, detector: Any, X: Any, *, random_state: Any = None) -> None:
        check_detector(detector, "detectability")
        self.detector = detector
        self.images: ImageCollection = detector._check_fitted_input(X)
        detector._check_threshold()
        self.random = check_random_state(random_state)
        first = self.images[0].shape
        if min(first[:2]) < MIN_SIDE:
            raise ValueError(
                f"{self.images.name(0)} has {first[0]} x {first[1]} pixels, and defects are drawn "
                f"into images of {MIN_SIDE} pixels or more. Give larger images."
            )
        patch_size = detector.network_.config["patch_size"] / detector.scale
        self._drawer = Drawer(patch_size, self.random)
        wanted = max(_LEAST_IMAGES, math.ceil(_DRAWN / self._drawer.n_places(first)))
        self._chosen = self.random.permutation(len(self.images))[:wanted]
        self._warn()
        self.n_images = self.n_marked = 0
        self._hits: list[tuple[Drawn, bool]] = []

    def __len__(self) -> int:
        """Images that are drawn into."""
        return len(self._chosen)

    def __iter__(self) -> Iterator[int]:
        """The number of images that were looked at, after each."""
        for index in self._chosen:
            self._try_image(int(index))
            self.n_images += 1
            yield self.n_images

    def found(self, mm_per_pixel: float | None = None) -> dict[str, Bunch]:
        """What `detectability` returns, of the trials so far."""
        check_mm_per_pixel(mm_per_pixel)
        unit = 1.0 if mm_per_pixel is None else float(mm_per_pixel)
        return {kind: self._found_of(kind, unit) for kind in KINDS}

    def _found_of(self, kind: str, unit: float) -> Bunch:
        table = self._table(kind, unit, is_faded=False)
        curve = fit_curve(table["sizes"], table["hits"])
        return Bunch(**table, **curve._asdict(), faded=self._table(kind, unit, is_faded=True))

    def _table(self, kind: str, unit: float, *, is_faded: bool) -> Bunch:
        rows = [
            (drawn.size * unit, hit, drawn.contrast)
            for drawn, hit in self._hits
            if drawn.kind == kind and drawn.is_faded == is_faded
        ]
        sizes, hits, contrasts = np.array(rows, dtype=np.float64).reshape(-1, 3).T
        return Bunch(sizes=sizes, hits=hits.astype(bool), contrasts=contrasts)

    @own_state()
    def _try_image(self, index: int) -> None:
        """Draw into an image until its share of all defects is drawn."""
        threshold = float(self.detector.threshold_)
        ((given, residual, _),) = self.detector._maps_and_values(
            self.images.take(np.array([index]))
        )
        before = residual > threshold
        image, counts = given
        low, high = self.detector._preparation().range_of(image, self.images.name(index))
        canvas = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
        n_copies = math.ceil(_DRAWN / len(self) / self._drawer.n_places(image.shape))
        hits = []
        for first in range(0, n_copies, _BATCH):
            copies, all_drawn = [], []
            for _ in range(first, min(first + _BATCH, n_copies)):
                altered, drawn = self._drawer(canvas, counts)
                changed = (altered != canvas).any(axis=-1)
                pixels = altered * (high - low) + low
                defective = image.copy()
                is_whole = image.dtype.kind in "iu"
                defective[changed] = (np.rint(pixels) if is_whole else pixels)[changed]
                copies.append(defective)
                all_drawn.append(drawn)
            maps = self.detector._maps(_collected(copies, counts))
            for drawn, residual in zip(all_drawn, maps, strict=True):
                new = (residual > threshold) & ~before
                hits += [(defect, bool(new[defect.box][defect.mask].any())) for defect in drawn]
        # All at once: an image that was interrupted does not count.
        self._hits += hits
        self.n_marked += bool(before.any())

    def _warn(self) -> None:
        remembered = self.detector._trained_digests
        n_trained = int(np.isin(self.images.short_digests(self._chosen), remembered).sum())
        if n_trained:
            warnings.warn(
                f"{n_trained} of {len(self)} images were trained on, so the figures are too good "
                "to be true. Give good images that the detector has not seen.",
                UserWarning,
                stacklevel=4,
            )
        if len(self.images) == 1:
            warnings.warn(
                "There is one good image: the figures hold for its material and lighting. Give "
                "some twenty.",
                UserWarning,
                stacklevel=4,
            )


def _collected(images: list[np.ndarray], counts: np.ndarray | None) -> ImageCollection:
    """A collection of images (h, w, c) of one size, of which some pixels may not count."""
    collected = sequence_of_images(images)
    return collected if counts is None else collected.with_marks(lambda _: ~counts)
