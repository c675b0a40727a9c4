"""Scores of good images and of inspected ones beside the threshold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_ssimae.inspection._plotting import FOUND, axes_or_new, require_matplotlib, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Good images, and inspected ones: Okabe and Ito's blue and black.
_COLOURS = ("#0072b2", "black")
# Dots of a row are spread over this share of the distance between rows.
_SPREAD = 0.5


class ThresholdDisplay:
    r"""The evidence for a threshold: a dot for each image, at its largest residual.

    Good images lie in one row, inspected ones in another, below; a line marks the threshold. The
    name of a row says how many of its images lie above.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters
    are stored as attributes.

    Parameters
    ----------
    good_scores : ndarray of shape (n,)
        Scores of good images: their largest residuals, negated, as from `score_samples`.
    threshold : float
        Map value above which a pixel is a defect.
    inspected_scores : ndarray of shape (m,), default=None
        Scores of other images.
    unit : str, default="residual"
        What the maps' values say; the label of the axis.

    Attributes
    ----------
    dots_ : list of matplotlib PathCollection
        Those of the good images and, if there are any, those of the inspected ones.
    line_ : matplotlib Line2D
        The threshold.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    ResidualMapDisplay : Where in the images the residuals lie.

    Notes
    -----
    Images that were trained on score better than other good ones: give good images that were not.

    Examples
    --------
    >>> from sklearn_ssimae.inspection import ThresholdDisplay
    >>> display = ThresholdDisplay.from_predictions(
    ...     [-0.9, -1.1, -1.0], threshold=1.5, inspected=[-1.2, -2.5]
    ... )
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['3 good\n0 above', '2 inspected\n1 above']
    """

    def __init__(
        self,
        *,
        good_scores: np.ndarray,
        threshold: float,
        inspected_scores: np.ndarray | None = None,
        unit: str = "residual",
    ) -> None:
        self.good_scores = good_scores
        self.threshold = threshold
        self.inspected_scores = inspected_scores
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        inspected: Any = None,
        *,
        ax: Axes | None = None,
    ) -> Self:
        """Let a detector score images, and draw the scores beside its threshold.

        Parameters
        ----------
        estimator : detector
            A fitted detector, a :class:`~sklearn_ssimae.ResidualThresholder`, or a pipeline that
            ends in either; frozen estimators and fitted searches are looked into.
        X : array or sequence
            Good images that were not trained on, as for the detector's `score_samples`.
        inspected : array or sequence, default=None
            Other images.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        display : ThresholdDisplay
            With what was computed, and drawn.

        Raises
        ------
        TypeError
            When the estimator is of another kind.
        ImportError
            When matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_ssimae import ResidualThresholder
        >>> from sklearn_ssimae.inspection import ThresholdDisplay
        >>> maps = np.random.default_rng(0).random((20, 16, 16))
        >>> thresholder = ResidualThresholder(strategy="false_alarm").fit(maps[:10])
        >>> display = ThresholdDisplay.from_estimator(thresholder, maps[10:], 2 * maps[10:])
        >>> display.threshold == float(thresholder.threshold_)
        True
        """
        require_matplotlib(cls.__name__)
        steps = list(_steps_backwards(estimator))
        if not hasattr(steps[0], "score_samples"):
            raise TypeError(
                f"{cls.__name__} needs a detector, a ResidualThresholder or a pipeline that ends "
                f"in one of them, got {type(steps[0]).__name__} as the last step."
            )
        good = estimator.score_samples(X)
        display = cls(
            good_scores=good,
            threshold=-float(steps[0].offset_),
            inspected_scores=None if inspected is None else estimator.score_samples(inspected),
            unit=next(
                (unit_of(step) for step in steps if hasattr(step, "reconstruct")), "residual"
            ),
        )
        return display.plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        good: Any,
        threshold: float,
        inspected: Any = None,
        *,
        ax: Axes | None = None,
    ) -> Self:
        """Draw scores beside a threshold.

        Parameters
        ----------
        good : array-like of shape (n,)
            Scores of good images that were not trained on, as from `score_samples`.
        threshold : float
            Map value above which a pixel is a defect: `threshold_` of a detector.
        inspected : array-like of shape (m,), default=None
            Scores of other images.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        display : ThresholdDisplay
            With what was given, and drawn.

        Raises
        ------
        ValueError
            For scores that are empty, not finite, or of other than one axis.
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(cls.__name__)
        display = cls(
            good_scores=_scores(good, "good"),
            threshold=float(threshold),
            inspected_scores=None if inspected is None else _scores(inspected, "inspected"),
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        display : ThresholdDisplay
            Itself.

        Raises
        ------
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(type(self).__name__)
        rows = {"good": self.good_scores}
        if self.inspected_scores is not None:
            rows["inspected"] = self.inspected_scores
        ax = axes_or_new(ax, figsize=(7, 1.4 + 0.9 * len(rows)))
        self.ax_, self.figure_, self.dots_ = ax, ax.figure, []
        labels = []
        for row, (name, scores) in enumerate(rows.items()):
            largest = -np.asarray(scores)
            # Evenly spread in an order that chance alone gives: the same picture each time.
            order = np.random.RandomState(0).permutation(len(largest))
            places = row + _SPREAD * ((order + 0.5) / len(largest) - 0.5)
            self.dots_.append(
                ax.scatter(largest, places, s=16, alpha=0.6, color=_COLOURS[row], linewidths=0)
            )
            labels.append(f"{len(largest)} {name}\n{(largest > self.threshold).sum()} above")
        self.line_ = ax.axvline(self.threshold, **FOUND)
        ax.set(
            xlabel=f"largest residual of an image: {self.unit}",
            title=f"threshold {self.threshold:.3g}",
            yticks=range(len(rows)),
            yticklabels=labels,
            ylim=(len(rows) - 0.5, -0.5),
        )
        return self


def _scores(values: Any, name: str) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError(
            f"{name} must hold finite scores of one image or more, as from score_samples, got an "
            f"array of shape {scores.shape}."
        )
    return scores


def _steps_backwards(estimator: Any) -> Iterator[Any]:
    """Steps of a pipeline, the last one first; an estimator is its own only step."""
    if isinstance(estimator, FrozenEstimator):
        yield from _steps_backwards(estimator.estimator)
    elif hasattr(estimator, "best_estimator_"):
        yield from _steps_backwards(estimator.best_estimator_)
    elif isinstance(estimator, Pipeline):
        for _, step in reversed(estimator.steps):
            yield from _steps_backwards(step)
    else:
        yield estimator
