"""A threshold for residual maps, as a step of its own after a detector."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from scipy import ndimage
from sklearn.base import (
    BaseEstimator,
    OneToOneFeatureMixin,
    OutlierMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_ssimae._deciding.false_alarms import (
    FALSE_ALARM_RATE,
    GoodMaxima,
    false_alarm_threshold,
)
from sklearn_ssimae._detectors.docs import DOC_LINK_TEMPLATE, published
from sklearn_ssimae._detectors.framing import FramesOfRows, framed
from sklearn_ssimae._detectors.names import NamesOfRows
from sklearn_ssimae._images.collection import resolve_image_shape
from sklearn_ssimae._images.containers import plain
from sklearn_ssimae._images.labels import learnable, score_maps
from sklearn_ssimae._maps.areas import EIGHT_NEIGHBOURS
from sklearn_ssimae.metrics import Images, as_map


@published
class ResidualThresholder(
    CallbackSupportMixin,
    NamesOfRows,
    OneToOneFeatureMixin,
    OutlierMixin,
    FramesOfRows,
    TransformerMixin,
    BaseEstimator,
):
    """Threshold of residual maps, learnt from the maps of good images.

    A pipeline step after a detector. It takes no notice of the detector's own threshold, so
    that rules for the threshold can be compared without training again.

    Parameters
    ----------
    strategy : {"max", "quantile", "sigma", "area", "false_alarm"}, default="quantile"
        How the threshold is found from the good maps:

        - "max": their largest value, so that no pixel of theirs is marked;
        - "quantile": the `quantile` of their pixels;
        - "sigma": mean + `n_sigma` · standard deviation of their pixels;
        - "area": the lowest value at which no region of at least `min_area` pixels is
          marked on them, the rule of the MVTec AD benchmark [1]_;
        - "false_alarm": the value that a further good map exceeds with the probability
          `false_alarm_rate`, the rule of the detectors' ``contamination="auto"``. The good
          maps must be of images that were not trained on.
    quantile : float, default=0.999
        In (0, 1): share of the good pixels that stay unmarked.
    n_sigma : float, default=3.0
        At least 0.
    min_area : int, default=100
        At least 1: pixels of the smallest region that counts as a defect. Pixels that
        share an edge or a corner belong to one region.
    false_alarm_rate : float, default=0.01
        In (0, 1): share of further good images that may be called defective.
    threshold : float, default=None
        The threshold itself; `strategy` is then without effect. It acts at once when it is set
        after fit.

    Attributes
    ----------
    threshold_ : float
        Map values above it are defects.
    offset_ : float
        ``-threshold_``.
    n_features_in_ : int
        Length of the rows seen in `fit`; only if they were rows.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names seen in `fit`; only if rows came with names that are all strings.

    See Also
    --------
    sklearn_ssimae.model_selection.LockingMemory : Keeps trained detectors for searches.

    Notes
    -----
    Maps are one array (n, h, w), a list of arrays (h, w) of several sizes, or rows
    (n, n_features), which is what detectors make of images, of lists and of rows.
    "area" and "false_alarm" read rows as squares if their length is a square number, else as
    images of one line. Give (n, h, w) for other shapes.

    The share of good *images* in which a pixel is marked is larger than the share of
    good pixels: 0.1 % of pixels can well touch every image.

    References
    ----------
    .. [1] P. Bergmann et al., "MVTec AD: A Comprehensive Real-World Dataset for
       Unsupervised Anomaly Detection", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae import ResidualThresholder
    >>> good = np.random.default_rng(0).random((10, 32, 32))
    >>> thresholder = ResidualThresholder(strategy="max").fit(good)
    >>> bool(thresholder.threshold_ == good.max())
    True
    >>> test = good[:2].copy()
    >>> test[1, 5:9, 5:9] += 1
    >>> thresholder.predict(test)
    array([ 1, -1])
    >>> thresholder.transform(test).sum(axis=(1, 2))
    array([ 0, 16])
    """

    _doc_link_module = "sklearn_ssimae"
    _doc_link_template = DOC_LINK_TEMPLATE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "strategy": [StrOptions({"max", "quantile", "sigma", "area", "false_alarm"})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "n_sigma": [Interval(Real, 0, None, closed="left")],
        "min_area": [Interval(Integral, 1, None, closed="left")],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "threshold": [Interval(Real, None, None, closed="both"), None],
    }

    def __init__(
        self,
        *,
        strategy: Literal["max", "quantile", "sigma", "area", "false_alarm"] = "quantile",
        quantile: float = 0.999,
        n_sigma: float = 3.0,
        min_area: int = 100,
        false_alarm_rate: float = FALSE_ALARM_RATE,
        threshold: float | None = None,
    ) -> None:
        self.strategy = strategy
        self.quantile = quantile
        self.n_sigma = n_sigma
        self.min_area = min_area
        self.false_alarm_rate = false_alarm_rate
        self.threshold = threshold

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Set the threshold from residual maps of good images.

        Parameters
        ----------
        X : array of shape (n, h, w) or (n, n_features), or list of n arrays (h, w)
            Residual maps, larger = more anomalous.
        y : array-like of shape (n,), or masks of the shapes of the maps, default=None
            Marks maps that must not be learnt from: by a label of -1, or by any True pixel
            of a mask. Any other y is ignored.

        Returns
        -------
        self : ResidualThresholder

        Raises
        ------
        ValueError
            If y leaves no map to learn from, is of another length than X, or holds masks of
            other shapes; if no map has `min_area` pixels; for maps that are not finite.
        """
        task = self._init_callback_context()
        task.call_on_fit_task_begin(estimator=self, X=X, y=y)
        maps = self._read(X, reset=True)
        good = learnable(y, maps)
        if self.threshold is not None:
            self._learnt = None
        elif good.any():
            self._learnt = self._learn(
                [values for values, is_good in zip(maps, good, strict=True) if is_good]
            )
        else:
            raise ValueError(
                f"y marks all {len(maps)} maps as defective, so there is none to learn the "
                "threshold from. Add good images, or set the parameter threshold."
            )
        task.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})
        return self

    @property
    def threshold_(self) -> np.float64:
        """The parameter `threshold`, or what was learnt in its place."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError("This ResidualThresholder is not fitted.")
        threshold = self._learnt if self.threshold is None else self.threshold
        if threshold is None:
            # An AttributeError too, so that hasattr and dir work.
            raise NotFittedError(
                "No threshold was learnt, since fit was given one. Call fit again."
            )
        return np.float64(threshold)

    @property
    def offset_(self) -> np.float64:
        """``-threshold_``."""
        return -self.threshold_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_learnt")

    @framed
    def transform(self, X: Any) -> Any:
        """Masks of the defects: map > `threshold_`.

        Parameters
        ----------
        X : array of shape (n, h, w) or (n, n_features), or list of n arrays (h, w)
            Residual maps. They may have another size than in `fit`, but for rows.

        Returns
        -------
        masks : bool ndarray of the shape of X, or list of bool ndarrays (h, w)
        """
        maps = self._read_fitted(X)
        # threshold_ is a float64 scalar, not a Python float: float32 maps are compared with
        # it in float64, which is where predict compares.
        if isinstance(maps, list):
            return [values > self.threshold_ for values in maps]
        return maps > self.threshold_

    def score_samples(self, X: Any) -> np.ndarray:
        """Score of each map: its largest value, negated. Lower = more anomalous.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        scores : float64 ndarray of shape (n,)
        """
        return np.array([-float(np.max(values)) for values in self._read_fitted(X)])

    def decision_function(self, X: Any) -> np.ndarray:
        """``score_samples(X) - offset_``: negative for defective images.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        scores : float64 ndarray of shape (n,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """-1 for maps in which :meth:`transform` marks a pixel, +1 for the others.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        labels : int ndarray of shape (n,)
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score(self, X: Any, y: Any) -> float:
        """Area under the ROC curve, of the pixels of the maps or of their largest values.

        It does not depend on the threshold. :func:`~sklearn_ssimae.metrics.iou_score` of
        the masks does.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.
        y : masks of the shapes of the maps, or array-like of shape (n,)
            Masks: ROC AUC of the pixels. Labels: of the maps; -1 = defect, any other value
            = good.

        Returns
        -------
        auc : float
            In [0, 1]. nan, with an UndefinedMetricWarning, if y holds one class alone.
        """
        return score_maps(self._read_fitted(X), y)

    def _learn(self, maps: list[np.ndarray]) -> float:
        if self.strategy == "max":
            return max(float(np.max(values)) for values in maps)
        if self.strategy == "area":
            return _area_threshold(_as_images(maps), self.min_area)
        if self.strategy == "false_alarm":
            maxima = [GoodMaxima.of(values) for values in _as_images(maps)]
            return false_alarm_threshold(maxima, rate=self.false_alarm_rate).value
        pixels = np.concatenate([np.ravel(values) for values in maps], dtype=np.float64)
        if self.strategy == "quantile":
            return float(np.quantile(pixels, self.quantile))
        return float(pixels.mean() + self.n_sigma * pixels.std())

    def _read(self, X: Any, *, reset: bool) -> Images:
        """Checked maps in the container of X: (n, h, w), a list, or rows (n, n_features)."""
        X = plain(X)
        is_list = isinstance(X, (list, tuple)) and len(X) > 0 and np.ndim(X[0]) > 1
        if not is_list and getattr(X, "ndim", 0) < 3:
            return validate_data(self, X, reset=reset)
        if reset:
            for name in {"n_features_in_", "feature_names_in_"} & vars(self).keys():
                delattr(self, name)
        maps = [as_map(values, index, "X") for index, values in enumerate(X)]
        for index, values in enumerate(maps):
            if values.size == 0:
                raise ValueError(f"X[{index}] has no pixels, shape {values.shape}.")
        if not maps:
            raise ValueError(f"X holds no maps, shape {np.shape(X)}. At least one is needed.")
        return maps if is_list else np.stack(maps)

    def _read_fitted(self, X: Any) -> Images:
        check_is_fitted(self)
        return self._read(X, reset=False)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []  # masks are boolean
        return tags


def _as_images(maps: list[np.ndarray]) -> list[np.ndarray]:
    if maps[0].ndim == 2:
        return maps
    return [row.reshape(resolve_image_shape(None, row.size)) for row in maps]


def _area_threshold(maps: Iterable[np.ndarray], min_area: int) -> float:
    """Lowest t at which every component of every ``map > t`` has less than `min_area` pixels."""
    threshold = -math.inf
    for values in maps:
        threshold = _raised(threshold, values, min_area)
    if threshold == -math.inf:
        raise ValueError(
            f"min_area={min_area}, but no good map has so many pixels: any threshold would "
            "do. Choose a smaller min_area."
        )
    return threshold


def _raised(threshold: float, values: np.ndarray, min_area: int) -> float:
    """`threshold`, or the lowest value of the map above it that its components ask for.

    Components can only shrink as the threshold rises, and change at values of the map alone:
    that allows bisection. A map that asks for no more than others costs one labelling.
    """

    def leaves_small_ones(t: float) -> bool:
        return _largest_component(values > t) < min_area

    if leaves_small_ones(threshold):
        return threshold
    candidates = np.unique(values[values > threshold])
    return float(candidates[bisect_left(candidates, True, key=leaves_small_ones)])


def _largest_component(mask: np.ndarray) -> int:
    """Pixels of the largest 8-connected component; 0 if there is none."""
    labels, n_components = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
    if n_components == 0:
        return 0
    return int(np.bincount(labels.ravel())[1:].max())
