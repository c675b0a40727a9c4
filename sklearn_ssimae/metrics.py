"""Measures of segmentation quality over the pixels of all images.

Masks
    True, or 1, marks a defect: arrays (n, h, w), or sequences of arrays (h, w) of several
    sizes.
Maps
    Of the same shapes, finite; larger = more anomalous.
Sequences
    Any object with a length and an index, so that images can be read when they are needed.
    Each is taken two or three times, one at a time.
Pixels
    Count alike, whichever image they are in.

Up to `MAX_EXACT_PIXELS` pixels, thresholds are all distinct values of the maps. Beyond that
they are the edges of bins, counted image by image: memory is what one image needs, and
some 50 MB. The edges are quantiles of both classes, each with a bin of its own, so that no
other bin holds more than about 1 / 30,000 of the good or of the defect pixels, whatever the
distribution of the values is. The ROC curve through the bins errs by at most half the
share of the pairs (defect pixel, good pixel) whose distinct values share a bin:
less than 2e-5. Most of that cancels; errors of 1e-8 are usual.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import confusion_matrix_at_thresholds

__all__ = [
    "iou_score",
    "located_score",
    "pixel_average_precision_score",
    "pixel_roc_auc_score",
    "pro_auc_score",
]

#: Pixels up to which the metrics are exact.
MAX_EXACT_PIXELS = 10_000_000
# Quantiles of each class that become edges of bins, and pixels of each class, drawn at
# random, that the quantiles are taken of: 16 for each keep all bins below twice their share.
_N_QUANTILES = 2**16
_N_SAMPLED = 2**20

Images = Sequence[np.ndarray] | np.ndarray

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def pixel_roc_auc_score(y_true: Images, y_score: Images) -> float:
    """Area under the ROC curve over the pixels of all images.

    Parameters
    ----------
    y_true : bool array of shape (n, h, w), or sequence of n arrays (h, w)
        Masks of the defects.
    y_score : array of shape (n, h, w), or sequence of n arrays (h, w)
        Residual maps; larger = more anomalous.

    Returns
    -------
    auc : float
        In [0, 1]: the probability that a defect pixel has a larger value than a good
        pixel, ties counted half. nan, with an UndefinedMetricWarning, if there are no
        defect pixels or no good ones.

    Raises
    ------
    ValueError
        For lengths or shapes that differ, masks that are not binary, maps that are not
        finite: with the index of the image.

    Notes
    -----
    Exact up to 10 million pixels, as :func:`sklearn.metrics.roc_auc_score`. Beyond that the
    error is less than 2e-5 and usually 1e-8, see :mod:`sklearn_ssimae.metrics`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae.metrics import pixel_roc_auc_score
    >>> masks = np.array([[[0, 0], [1, 1]]])
    >>> maps = np.array([[[0.1, 0.3], [0.2, 0.9]]])
    >>> pixel_roc_auc_score(masks, maps)
    0.75
    """
    ranking = _Ranking(y_true, y_score)
    if ranking.n_defect == 0 or ranking.n_good == 0:
        return _undefined("The ROC AUC", "defect pixels (True) and good pixels (False)", ranking)
    defect, good = ranking.cumulative()
    return float(np.trapezoid(defect / defect[-1], good / good[-1]))


def pixel_average_precision_score(y_true: Images, y_score: Images) -> float:
    """Average precision over the pixels of all images.

    Parameters
    ----------
    y_true : bool array of shape (n, h, w), or sequence of n arrays (h, w)
        Masks of the defects.
    y_score : array of shape (n, h, w), or sequence of n arrays (h, w)
        Residual maps; larger = more anomalous.

    Returns
    -------
    average_precision : float
        In [0, 1]: the precision at every threshold, weighted by the gain of recall there.
        A map of random values has the share of the defect pixels. nan, with an
        UndefinedMetricWarning, if there are no defect pixels; 1 if there are no others.

    Raises
    ------
    ValueError
        As :func:`pixel_roc_auc_score`.

    Notes
    -----
    Exact up to 10 million pixels, as :func:`sklearn.metrics.average_precision_score`.
    Beyond that the error is less than 1e-3 and usually 1e-6 to 1e-5: precision varies within
    a bin, most so where it rests on few pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae.metrics import pixel_average_precision_score
    >>> masks = np.array([[[0, 0], [1, 1]]])
    >>> maps = np.array([[[0.1, 0.3], [0.2, 0.9]]])
    >>> round(pixel_average_precision_score(masks, maps), 4)
    0.8333
    """
    ranking = _Ranking(y_true, y_score)
    if ranking.n_defect == 0:
        return _undefined("Average precision", "defect pixels (True)", ranking)
    defect, good = ranking.cumulative()
    precision = defect[1:] / (defect[1:] + good[1:])
    return float(np.sum(np.diff(defect) * precision) / defect[-1])


def pro_auc_score(y_true: Images, y_score: Images, *, max_fpr: float = 0.3) -> float:
    r"""Area under the curve of per-region overlap (PRO) up to a false-positive rate.

    Parameters
    ----------
    y_true : bool array of shape (n, h, w), or sequence of n arrays (h, w)
        Masks of the defects. Their regions are the connected components; pixels that
        share a corner are connected.
    y_score : array of shape (n, h, w), or sequence of n arrays (h, w)
        Residual maps; larger = more anomalous.
    max_fpr : float, default=0.3
        False-positive rate in (0, 1] at which the area ends.

    Returns
    -------
    area : float
        In [0, 1]. A map of random values has ``max_fpr / 2``.

    Raises
    ------
    ValueError
        If there is no defect pixel, or no good one, or `max_fpr` is not in (0, 1]; else as
        :func:`pixel_roc_auc_score`.

    Notes
    -----
    With the regions :math:`C_k` of all images and the pixels :math:`P_t` above threshold t,

    .. math:: \mathrm{PRO}(t) = \frac{1}{K} \sum_{k=1}^{K} \frac{|P_t \cap C_k|}{|C_k|}

    is drawn over the false-positive rate, the share of the good pixels of all images in
    :math:`P_t`, for every distinct threshold [1]_. The points are joined by straight lines,
    also at `max_fpr`, and the area is divided by `max_fpr`. Small regions thus count
    as much as large ones.

    PRO is the true-positive rate with pixels weighted by :math:`1 / (K |C_k|)`, so the area
    is exact up to 10 million pixels. Beyond that the error is less than
    ``2e-5 / max_fpr``, see :mod:`sklearn_ssimae.metrics`.

    References
    ----------
    .. [1] P. Bergmann et al., "The MVTec Anomaly Detection Dataset: A Comprehensive
       Real-World Dataset for Unsupervised Anomaly Detection", International Journal of
       Computer Vision 129, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae.metrics import pro_auc_score
    >>> masks = np.zeros((1, 8, 8), dtype=bool)
    >>> masks[0, 1, 1] = masks[0, 4:7, 4:7] = True
    >>> maps = masks * 1.0
    >>> pro_auc_score(masks, maps)
    1.0
    >>> maps[0, 1, 1] = 0  # one of the two regions is missed
    >>> round(pro_auc_score(masks, maps), 3)
    0.575
    """
    if not (isinstance(max_fpr, Real) and 0 < max_fpr <= 1):
        raise ValueError(f"max_fpr must be a number in (0, 1], got {max_fpr!r}.")
    ranking = _Ranking(y_true, y_score)
    if ranking.n_defect == 0:
        raise ValueError(
            f"y_true holds no defect pixel in {len(y_true)} masks, so there is no region whose "
            "overlap could be measured. Include images with defects."
        )
    if ranking.n_good == 0:
        raise ValueError(
            f"y_true marks every pixel of {len(y_true)} masks as a defect, so there is no "
            "false-positive rate. Include good pixels; True, or 1, marks defects."
        )
    defect, good = ranking.cumulative(_shares_of_regions)
    overlap, fpr = defect / defect[-1], good / good[-1]
    stop = np.searchsorted(fpr, max_fpr, side="right")
    overlap = np.append(overlap[:stop], np.interp(max_fpr, fpr, overlap))
    area = np.trapezoid(overlap, np.append(fpr[:stop], max_fpr)) / max_fpr
    return min(float(area), 1.0)  # rounding may exceed 1


def iou_score(y_true: Images, y_pred: Images) -> float:
    """Intersection over union of the defect pixels of all images.

    Parameters
    ----------
    y_true : bool array of shape (n, h, w), or sequence of n arrays (h, w)
        Masks of the defects.
    y_pred : bool array of shape (n, h, w), or sequence of n arrays (h, w)
        Masks that were found.

    Returns
    -------
    iou : float
        In [0, 1]. 1 if there are no defect pixels and none was found: the masks agree.

    Raises
    ------
    ValueError
        For lengths or shapes that differ and for masks that are not binary: with the
        index of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae.metrics import iou_score
    >>> iou_score(np.array([[[0, 1], [1, 1]]]), np.array([[[1, 1], [1, 0]]]))
    0.5
    """
    intersection = union = 0
    for mask, found in _pairs(y_true, y_pred, "y_pred", as_mask):
        intersection += int(np.count_nonzero(mask & found))
        union += int(np.count_nonzero(mask | found))
    return intersection / union if union else 1.0


def as_mask(item: Any, index: int, name: str) -> np.ndarray:
    """One mask as a boolean array (h, w); `name` and `index` are for the message."""
    mask = np.asarray(item)
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2:
        raise ValueError(
            f"{name}[{index}] has the shape {mask.shape}, a mask must have (h, w). Give masks "
            "as one array (n, h, w) or as a list of arrays (h, w), also for a single image."
        )
    if mask.dtype.kind == "b":
        return mask
    if mask.dtype.kind not in "uif" or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"{name}[{index}] is no binary mask: it holds {_content(mask)}, and only 0 and "
            "1, or False and True, are allowed. Give `mask > 0` if other values mark defects."
        )
    return mask.astype(bool)


def as_map(item: Any, index: int, name: str) -> np.ndarray:
    """One map as an array (h, w) of float32 or float64, with finite values."""
    values = np.asarray(item)
    if values.ndim != 2:
        raise ValueError(
            f"{name}[{index}] has the shape {values.shape}, a map must have (h, w). Give maps "
            "as one array (n, h, w) or as a list of arrays (h, w), also for a single image."
        )
    if values.dtype.kind not in "buif":
        raise ValueError(f"{name}[{index}] must hold real numbers, got dtype {values.dtype}.")
    if values.dtype != np.float32:
        values = values.astype(np.float64, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}[{index}] holds NaN or infinity. Look for them in the image it was made of."
        )
    return values


def located_score(y_true: Images, masks: Images) -> float:
    """Share of the defective images in which a marked pixel lies on the defect.

    Parameters
    ----------
    y_true : bool array of shape (n, h, w), or sequence of n arrays (h, w)
        Masks of the defects. Images without a True pixel are good and do not count.
    masks : bool array of shape (n, h, w), or sequence of n arrays (h, w)
        Marked pixels, such as a detector's `segment` gives.

    Returns
    -------
    located : float
        In [0, 1]. There is no tolerance: a marked pixel must itself be a defect pixel. nan, with an
        UndefinedMetricWarning, if no image is defective.

    Raises
    ------
    ValueError
        As :func:`pixel_roc_auc_score`.

    Notes
    -----
    An image may be called defective for something that is not its defect: it is then found, and
    not located. The share of images found is never smaller.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae.metrics import located_score
    >>> defects = np.zeros((3, 4, 4), dtype=bool)
    >>> defects[:2, 0, 0] = True
    >>> marked = np.zeros((3, 4, 4), dtype=bool)
    >>> marked[0, 0, :2] = marked[1, 3, 3] = True
    >>> located_score(defects, marked)
    0.5
    """
    hits = located_images(y_true, masks)
    if not hits:
        warnings.warn(
            "located_score needs defective images, but the masks hold no defect pixel. The score "
            "is nan.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return math.nan
    return float(np.mean(hits))


def located_images(y_true: Images, masks: Images) -> list[bool]:
    """Whether each image that has a defect is located, as in :func:`located_score`."""
    return [
        bool((truth & marked).any())
        for truth, marked in _pairs(y_true, masks, "masks", as_mask)
        if truth.any()
    ]


class _Ranking:
    """Pixels in the order of falling map values: what all ranking metrics rest on.

    Attributes
    ----------
    n_defect, n_good : int
        Number of pixels of either class.
    """

    def __init__(self, y_true: Images, y_score: Images) -> None:
        self._y_true, self._y_score = y_true, y_score
        self.n_defect = self.n_good = 0
        for mask, _ in self._pairs():
            n_defect = int(np.count_nonzero(mask))
            self.n_defect += n_defect
            self.n_good += mask.size - n_defect

    def cumulative(
        self, weigh: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the pixels at or above each threshold, for falling thresholds.

        Parameters
        ----------
        weigh : callable, default=None
            Maps a mask to the weights of its True pixels, in C order. None: 1 each.

        Returns
        -------
        defect, good : float64 ndarrays of shape (n_thresholds + 1,)
            Sum of the weights of the defect pixels, and number of the good ones. The first
            entry is 0, of a threshold above all values.
        """
        is_exact = self.n_defect + self.n_good <= MAX_EXACT_PIXELS
        defect, good = self._exact(weigh) if is_exact else self._binned(weigh)
        return np.append(0.0, defect), np.append(0.0, good)

    def _exact(
        self, weigh: Callable[[np.ndarray], np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        masks, values, weights = [], [], []
        for mask, scores in self._pairs():
            masks.append(mask.ravel())
            values.append(scores.ravel())
            if weigh is not None:
                pixels = np.ones(mask.shape)
                pixels[mask] = weigh(mask)
                weights.append(pixels.ravel())
        _, good, _, defect, _ = confusion_matrix_at_thresholds(
            np.concatenate(masks),
            np.concatenate(values),
            pos_label=True,
            sample_weight=np.concatenate(weights) if weights else None,
        )
        return defect, good

    def _binned(
        self, weigh: Callable[[np.ndarray], np.ndarray] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        edges = self._edges()
        defect, good = np.zeros(len(edges) + 1), np.zeros(len(edges) + 1)
        for mask, scores in self._pairs():
            weights = None if weigh is None else weigh(mask)
            defect += _histogram(scores[mask], edges, weights)
            good += _histogram(np.sort(scores[~mask]), edges)
        occupied = (defect + good) > 0
        return np.cumsum(defect[occupied][::-1]), np.cumsum(good[occupied][::-1])

    def _edges(self) -> np.ndarray:
        """Edges of bins [edge, next edge), such that every quantile has its own."""
        rng = np.random.default_rng(0)
        samples: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for mask, scores in self._pairs():
            samples[0].append(_draw(scores[mask], self.n_defect, rng))
            samples[1].append(_draw(scores[~mask], self.n_good, rng))
        quantiles = []
        for sample in samples:
            ordered = np.sort(np.concatenate(sample, dtype=np.float64))
            quantiles.append(ordered[:: max(1, len(ordered) // _N_QUANTILES)])
        edges = np.concatenate(quantiles)
        # The next larger number closes the bin: values that many pixels share, such as 0
        # in opened maps, are tied with nothing else.
        return np.union1d(edges, np.nextafter(edges, np.inf))

    def _pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return _pairs(self._y_true, self._y_score, "y_score", as_map)


def _pairs(
    y_true: Images, other: Images, name: str, read: Callable[[Any, int, str], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks with the maps or masks that belong to them, checked one by one."""
    if len(y_true) != len(other):
        raise ValueError(f"y_true has {len(y_true)} images, {name} has {len(other)}.")
    if len(y_true) == 0:
        raise ValueError(f"y_true and {name} are empty. At least one image is needed.")
    for index in range(len(y_true)):
        mask = as_mask(y_true[index], index, "y_true")
        image = read(other[index], index, name)
        if mask.shape != image.shape:
            raise ValueError(
                f"y_true[{index}] has the shape {mask.shape}, but {name}[{index}] has "
                f"{image.shape}. A mask must have the height and width of its image."
            )
        yield mask, image


def _content(mask: np.ndarray) -> str:
    if mask.dtype.kind not in "uif":
        return f"dtype {mask.dtype}"
    values = np.unique(mask)
    shown = ", ".join(str(value) for value in values[:4])
    return shown if len(values) <= 4 else f"{shown}, … ({len(values)} values)"


def _shares_of_regions(mask: np.ndarray) -> np.ndarray:
    """For each True pixel, the share it makes of its connected component."""
    regions = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)[0][mask]
    return 1 / np.bincount(regions)[regions]


def _histogram(
    values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    bins = np.searchsorted(edges, values, side="right")
    return np.bincount(bins, weights, minlength=len(edges) + 1)


def _draw(values: np.ndarray, n_class: int, rng: np.random.Generator) -> np.ndarray:
    """An image's part of the sample of a class of `n_class` pixels: all, if they are few."""
    if n_class <= _N_SAMPLED or len(values) == 0:
        return values
    return rng.choice(values, math.ceil(_N_SAMPLED * len(values) / n_class))


def _undefined(metric: str, needed: str, ranking: _Ranking) -> float:
    warnings.warn(
        f"{metric} needs {needed}, but the masks hold {ranking.n_defect} defect pixels and "
        f"{ranking.n_good} good ones. The score is nan.",
        UndefinedMetricWarning,
        stacklevel=3,
    )
    return math.nan
