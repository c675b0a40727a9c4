"""Choice of models, windows and thresholds, by pixel masks or on good images alone."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
from filelock import FileLock
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_ssimae import ResidualThresholder, metrics
from sklearn_ssimae._deciding.choice import cut_tiles, draw_into, quality_of_kinds
from sklearn_ssimae._deciding.probes import make_probes
from sklearn_ssimae._images.labels import (
    in_shape_of,
    is_masks,
    unpack,
    wholly_good_images_of,
)
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae.datasets._drawing import MIN_SIDE
from sklearn_ssimae.metrics import Images

__all__ = ["LockingMemory", "pixel_scorer", "synthetic_defect_scorer"]

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


def synthetic_defect_scorer(*, random_state: int = 0) -> SyntheticDefectScorer:
    """Scorer that draws defects into good images, and says how well they are found.

    For GridSearchCV, cross_validate, learning_curve and the like where no defective image is at
    hand: window_size, latent_dim, the number of epochs, the loss.

    Parameters
    ----------
    random_state : int, default=0
        Where defects are drawn, and which. All candidates of a search see the same ones.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)`` returns a float in [0, 1]; larger is better.
        `estimator` is a fitted detector, or a pipeline that ends in one or in one and a
        :class:`~sklearn_ssimae.ResidualThresholder`, which has no effect; frozen estimators and
        fitted searches are looked into. X holds good images; those that y marks as defective
        (-1 in a label vector, a True pixel in a mask) are left out.

    Raises
    ------
    TypeError
        For a random_state that is no int, and by the scorer, for an estimator of another kind.
    ValueError
        By the scorer, if nothing can be drawn: images smaller than 16 pixels at the scale of the
        network; or if y leaves no good image.

    See Also
    --------
    pixel_scorer : Scores by masks of real defects; the better judge where there are some.
    sklearn_ssimae.datasets.add_synthetic_defects : Draws defects to look at.

    Notes
    -----
    The images are cut into squares of two patches at most; eight kinds of defects are drawn into
    16 of them, as a fit does to choose its map. The score is the mean over the kinds of two
    parts, each in [0, 1]: the average precision of the pixels, and a share of defects whose
    largest residual stands out above that of good squares. It does not depend on the threshold.

    Sizes of squares and defects go with `patch_size`, in pixels of images resized by `scale`:
    detectors that differ in these two face other defects, and their scores cannot be compared.

    Examples
    --------
    Where stripes begin is a place on a circle, which one number cannot hold:

    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> from sklearn_ssimae.model_selection import synthetic_defect_scorer
    >>> phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (12, 1, 1))
    >>> stripes = 0.5 + 0.3 * np.sin(np.arange(32) * np.pi / 4 + phases) * np.ones((32, 1))
    >>> search = GridSearchCV(
    ...     L2AutoencoderDetector(patch_size=16, n_patches=100, max_iter=6, random_state=0),
    ...     {"latent_dim": [1, 2]},
    ...     scoring=synthetic_defect_scorer(),
    ...     cv=[(range(10), range(10, 12))],
    ... )
    >>> search.fit(stripes).best_params_
    {'latent_dim': 2}
    """
    if not isinstance(random_state, Integral):
        raise TypeError(
            f"random_state must be an int, got {random_state!r}: all candidates are to see the "
            "same defects."
        )
    return SyntheticDefectScorer(int(random_state))


class SyntheticDefectScorer:
    """What `synthetic_defect_scorer` returns: it can be pickled and has a readable repr."""

    def __init__(self, random_state: int) -> None:
        self.random_state = random_state

    def __repr__(self) -> str:
        return f"synthetic_defect_scorer(random_state={self.random_state})"

    @own_state()
    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Score the fitted estimator on the good ones of the images X."""
        detector, X = _last_step(estimator, X, but_thresholder=True)
        if not hasattr(detector, "reconstruct"):
            raise TypeError(
                f"{self!r} needs a detector, or a pipeline that ends in one, got "
                f"{type(detector).__name__} as the last step of {estimator!r}."
            )
        return float(np.mean(list(self._qualities(detector, X, y).values())))

    def _qualities(self, detector: Any, X: Any, y: Any) -> dict[str, float]:
        """How well each kind of defect is found."""
        images = wholly_good_images_of(detector._check_fitted_input(X), y)
        random = np.random.RandomState(self.random_state)
        patch_size = detector.network_.config["patch_size"]
        planes = (planes for _, planes in detector._planes(images))
        n_channels = detector.network_.config["n_channels"]
        tiles = cut_tiles(planes, patch_size, n_channels, random)
        if not tiles:
            raise ValueError(
                f"{self!r} draws defects into squares of {MIN_SIDE} pixels or more, and none of "
                f"the {len(images)} good images is as large, at scale={detector.scale}. Give "
                "larger images, or set another scale."
            )
        maker = detector._map_maker()
        cases = draw_into(tiles, patch_size, random, make_probes(patch_size))
        maps = list(maker.maps(cases))
        return quality_of_kinds(maps, logarithmic=maker.comparison.gives_logarithms)


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
    ...     patch_size=32, scale=0.25, n_patches=200, max_iter=2, random_state=0, verbose=1
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     pipeline = Pipeline(
    ...         [("detector", detector), ("thresholder", ResidualThresholder())],
    ...         memory=LockingMemory(folder),
    ...     )
    ...     for quantile in (0.99, 0.995, 0.999):
    ...         pipeline = pipeline.set_params(thresholder__quantile=quantile)
    ...         masks = pipeline.fit(data.brick()[None, :256]).transform(data.brick()[None, 256:])
    epoch 1/2, loss ...
    epoch 2/2, loss ...
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


def _last_step(estimator: Any, X: Any, *, but_thresholder: bool = False) -> tuple[Any, Any]:
    """The step that makes maps or masks, and what the steps before it make of X.

    `but_thresholder` takes no notice of a thresholder at the end.
    """
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            is_long = len(estimator) > 1
            if but_thresholder and is_long and isinstance(estimator[-1], ResidualThresholder):
                estimator = estimator[:-1]
                continue
            if is_long:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        else:
            return estimator, X
