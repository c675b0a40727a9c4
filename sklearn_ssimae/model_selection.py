"""Choice of models, windows and thresholds by pixel masks, with scikit-learn's tools."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import joblib
from filelock import FileLock
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_ssimae import ResidualThresholder, metrics
from sklearn_ssimae._images.labels import in_shape_of, is_masks, unpack
from sklearn_ssimae.metrics import Images

__all__ = ["LockingMemory", "pixel_scorer"]

_OF_MAPS = {
    "roc_auc": metrics.pixel_roc_auc_score,
    "average_precision": metrics.pixel_average_precision_score,
    "pro_auc": metrics.pro_auc_score,
}
_OF_MASKS = {"iou": metrics.iou_score}


def pixel_scorer(metric: Literal["roc_auc", "average_precision", "pro_auc", "iou"]) -> PixelScorer:
    """Scorer for pixel masks, for GridSearchCV, cross_validate, learning_curve and the like.

    Parameters
    ----------
    metric : {"roc_auc", "average_precision", "pro_auc", "iou"}
        Which function of :mod:`sklearn_ssimae.metrics` is applied. "iou" depends on the
        threshold, the others on the residual maps alone.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` returns a float; larger is better. `estimator` is a fitted
        detector, a :class:`~sklearn_ssimae.ResidualThresholder`, or a pipeline that ends
        in either; frozen estimators and fitted searches are looked into. y holds masks, True =
        defect: an array (n, h, w) or a sequence of arrays (h, w); for X of rows also an array
        (n, h·w), unless the metric is "pro_auc".

    Raises
    ------
    ValueError
        For an unknown metric. The scorer raises it too: if y holds no masks, or masks of other
        shapes than the images.
    TypeError
        By the scorer, for an estimator of another kind.

    See Also
    --------
    sklearn_ssimae.ResidualThresholder : Compares thresholds without training again.
    LockingMemory : Keeps trained detectors for such comparisons.

    Notes
    -----
    Searches hand y to `fit` as well, where masks with a defect keep their images from being
    learnt from. `fit` cannot know masks that are rows (n, h·w), and ignores them: give
    (n, h, w) if X holds defects.

    A fold without defects scores nan, with a warning, or raises for "pro_auc". Shuffle, or
    split by a label for each image: ``cv=list(StratifiedKFold(3).split(labels, labels))``.

    :class:`~sklearn.callback.ScoringMonitor` needs a name with a scorer that is a callable:
    ``ScoringMonitor(scoring={"iou": pixel_scorer("iou")})``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_ssimae import ResidualThresholder
    >>> from sklearn_ssimae.model_selection import pixel_scorer
    >>> maps = np.random.default_rng(0).random((12, 16, 16))
    >>> masks = np.zeros(maps.shape, dtype=bool)
    >>> masks[::3, 4:8, 4:8] = True
    >>> maps[masks] += 1
    >>> search = GridSearchCV(
    ...     ResidualThresholder(),
    ...     {"threshold": [0.5, 1.0, 1.5]},
    ...     scoring=pixel_scorer("iou"),
    ...     cv=3,
    ... )
    >>> search.fit(maps, masks).best_params_
    {'threshold': 1.0}
    """
    known = [*_OF_MAPS, *_OF_MASKS]
    if metric not in known:
        raise ValueError(f"Unknown metric {metric!r}. Known are {', '.join(map(repr, known))}.")
    return PixelScorer(metric)


class PixelScorer:
    """What `pixel_scorer` returns: a callable that can be pickled and has a readable repr."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def __repr__(self) -> str:
        return f"pixel_scorer({self.metric!r})"

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score the fitted estimator on images X with masks y."""
        masks = self._read_masks(y)
        last, X = _last_step(estimator, X)
        is_thresholder = isinstance(last, ResidualThresholder)
        if not is_thresholder and not hasattr(last, "segment"):
            raise TypeError(
                f"{self!r} needs a detector, a ResidualThresholder or a pipeline that ends in "
                f"one of them, got {type(last).__name__} as the last step of {estimator!r}."
            )
        if self.metric in _OF_MASKS:
            found = last.transform(X) if is_thresholder else last.segment(X)
            return _OF_MASKS[self.metric](masks, in_shape_of(found, masks))
        maps = X if is_thresholder else last.transform(X)
        return _OF_MAPS[self.metric](masks, in_shape_of(maps, masks))

    def _read_masks(self, y: Any) -> Images:
        masks = unpack(y)
        if is_masks(masks):
            return masks
        if masks.ndim == 2 and self.metric != "pro_auc":
            return masks[:, None]  # the other metrics take no notice of where pixels lie
        raise ValueError(
            f"{self!r} needs masks as y: an array (n, h, w) or a sequence of arrays (h, w), got "
            f"an array of shape {masks.shape}."
        )


class LockingMemory(joblib.Memory):
    """Cache of results, none of which is computed by two workers at once.

    As the memory of a pipeline it keeps each detector that was trained, so that a search over
    what follows the detector trains it once per fold. With several workers
    :class:`joblib.Memory` falls short of that: it takes no locks, and workers that come to
    the same fold while none has finished it all train on it. Here one trains while the others
    wait for what it stores.

    Parameters
    ----------
    location : str or path
        Folder of the cache; it is made if it is missing. A file system that the workers
        share.

    Examples
    --------
    Three thresholds, one training:

    >>> from tempfile import TemporaryDirectory
    >>> from skimage import data
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder
    >>> from sklearn_ssimae.model_selection import LockingMemory
    >>> detector = L2AutoencoderDetector(
    ...     patch_size=32, scale=0.25, max_iter=1, random_state=0, verbose=1
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     pipeline = Pipeline(
    ...         [("detector", detector), ("thresholder", ResidualThresholder())],
    ...         memory=LockingMemory(folder),
    ...     )
    ...     for quantile in (0.99, 0.995, 0.999):
    ...         pipeline = pipeline.set_params(thresholder__quantile=quantile)
    ...         masks = pipeline.fit(data.brick()[None, :256]).transform(data.brick()[None, 256:])
    L2AutoencoderDetector: epoch 1/1, loss ...
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        super().__init__(location, verbose=0)

    def cache(
        self,
        func: Callable[..., Any] | None = None,
        ignore: list[str] | None = None,
        **options: Any,
    ) -> Callable[..., Any]:
        """A function that takes the results of `func` from the cache, or adds them to it.

        Parameters
        ----------
        func : callable, default=None
            None makes a decorator, as in :meth:`joblib.Memory.cache`.
        ignore : list of str, default=None
            Names of arguments that the result does not depend on; workers wait for each other
            only if these are given as keywords.
        **options
            As in :meth:`joblib.Memory.cache`.

        Returns
        -------
        cached : callable
            Takes the arguments of `func`.
        """
        if func is None:
            return functools.partial(self.cache, ignore=ignore, **options)
        cached = super().cache(func, ignore=ignore, **options)
        ignored = ignore or ()

        @functools.wraps(func)
        def locked(*args: Any, **kwargs: Any) -> Any:
            decisive = {name: value for name, value in kwargs.items() if name not in ignored}
            call = joblib.hash((func.__module__, func.__qualname__, args, decisive))
            with FileLock(Path(self.location, f"{call}.lock")):
                return cached(*args, **kwargs)

        return locked


def _last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """The step that makes maps or masks, and what the steps before it make of X."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        else:
            return estimator, X
