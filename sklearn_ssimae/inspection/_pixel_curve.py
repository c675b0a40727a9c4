"""ROC and PRO curves over pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from sklearn_ssimae._images.labels import in_shape_of, unpack
from sklearn_ssimae.inspection._plotting import axes_or_new, require_matplotlib, thinned
from sklearn_ssimae.metrics import (
    Images,
    _Ranking,
    _shares_of_regions,
    pixel_roc_auc_score,
    pro_auc_score,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PixelCurveDisplay:
    r"""Curve of the defect pixels found over the good pixels marked, for all thresholds.

    "roc": the true-positive rate over the pixels of all images. "pro": the per-region overlap,
    the mean over the defect regions of the share that is found, which counts small
    regions as much as large ones.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters
    are stored as attributes.

    Parameters
    ----------
    fpr : ndarray of shape (n_points,)
        Share of the good pixels above the threshold, rising.
    rate : ndarray of shape (n_points,)
        True-positive rate or per-region overlap.
    area : float
        Area under the curve; for "pro" the one up to `max_fpr`, divided by it.
    curve : {"roc", "pro"}, default="roc"
        Which curve it is.
    max_fpr : float, default=1.0
        False-positive rate at which the drawing ends.
    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    chance_level_ : matplotlib Line2D or None
        The line of random maps.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    sklearn.metrics.RocCurveDisplay : The curve of one score an image.
    sklearn_ssimae.metrics.pixel_roc_auc_score : The area of "roc".
    sklearn_ssimae.metrics.pro_auc_score : The area of "pro".

    Notes
    -----
    The curve is computed as the areas are, see :mod:`sklearn_ssimae.metrics`: exact up to 10
    million pixels, in bounded memory beyond. Points that lie less than :math:`10^{-3}` apart along
    the curve are left out of it, the area is that of all.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae.inspection import PixelCurveDisplay
    >>> masks = np.array([[[0, 0], [1, 1]]])
    >>> maps = np.array([[[0.1, 0.3], [0.2, 0.9]]])
    >>> display = PixelCurveDisplay.from_predictions(masks, maps)
    >>> display.fpr, display.rate, display.area
    (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]), 0.75)
    """

    def __init__(
        self,
        *,
        fpr: np.ndarray,
        rate: np.ndarray,
        area: float,
        curve: Literal["roc", "pro"] = "roc",
        max_fpr: float = 1.0,
        name: str | None = None,
    ) -> None:
        self.fpr = fpr
        self.rate = rate
        self.area = area
        self.curve = curve
        self.max_fpr = max_fpr
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Images,
        *,
        curve: Literal["roc", "pro"] = "roc",
        max_fpr: float | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,
    ) -> Self:
        """Draw the curve of a detector's residual maps.

        Parameters
        ----------
        estimator : detector
            Anything fitted whose `transform` gives residual maps.
        X : array or sequence
            Images, as for the detector's `transform`.
        y : bool array of shape (n, h, w), or sequence of n arrays (h, w)
            Masks of the defects.
        curve : {"roc", "pro"}, default="roc"
            True-positive rate, or per-region overlap.
        max_fpr : float, default=None
            As for :meth:`from_predictions`.
        name : str, default=None
            Name in the legend. None: that of the estimator's class.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_params : dict
            Passed to :meth:`plot`.

        Returns
        -------
        display : PixelCurveDisplay
            With what was computed, and drawn.

        Raises
        ------
        ValueError, ImportError
            As :meth:`from_predictions`.
        """
        require_matplotlib(cls.__name__)
        return cls.from_predictions(
            y,
            in_shape_of(estimator.transform(X), unpack(y)),
            curve=curve,
            max_fpr=max_fpr,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
            **plot_params,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Images,
        y_score: Images,
        *,
        curve: Literal["roc", "pro"] = "roc",
        max_fpr: float | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,
    ) -> Self:
        """Draw the curve of residual maps.

        Parameters
        ----------
        y_true : bool array of shape (n, h, w), or sequence of n arrays (h, w)
            Masks of the defects.
        y_score : array of shape (n, h, w), or sequence of n arrays (h, w)
            Residual maps; larger = more anomalous.
        curve : {"roc", "pro"}, default="roc"
            True-positive rate, or per-region overlap.
        max_fpr : float, default=None
            False-positive rate in (0, 1] at which the area and the drawing of "pro" end.
            None: 0.3. "roc" takes no other than 1.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        **plot_params : dict
            Passed to :meth:`plot`.

        Returns
        -------
        display : PixelCurveDisplay
            With what was computed, and drawn.

        Raises
        ------
        ValueError
            For a `curve` or `max_fpr` that there is not; when there is no defect pixel or no
            good one; else as :func:`~sklearn_ssimae.metrics.pixel_roc_auc_score`.
        ImportError
            When matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_ssimae.inspection import PixelCurveDisplay
        >>> masks = np.zeros((1, 8, 8), dtype=bool)
        >>> masks[0, 1, 1] = masks[0, 4:7, 4:7] = True
        >>> display = PixelCurveDisplay.from_predictions(masks, masks * 1.0, curve="pro")
        >>> display.area
        1.0
        """
        require_matplotlib(cls.__name__)
        if curve not in ("roc", "pro"):
            raise ValueError(f"curve must be 'roc' or 'pro', got {curve!r}.")
        if curve == "roc" and max_fpr not in (None, 1):
            raise ValueError(f"max_fpr is for curve='pro'; with curve='roc' got {max_fpr!r}.")
        limit = 1.0 if curve == "roc" else 0.3 if max_fpr is None else max_fpr
        ranking = _Ranking(y_true, y_score)
        if ranking.n_defect == 0 or ranking.n_good == 0:
            raise ValueError(
                f"A curve needs defect pixels and good ones, the masks hold {ranking.n_defect} "
                f"and {ranking.n_good}. Include images with defects; True, or 1, marks defects."
            )
        is_roc = curve == "roc"
        area = (
            pixel_roc_auc_score(y_true, y_score)
            if is_roc
            else pro_auc_score(y_true, y_score, max_fpr=limit)
        )
        defect, good = ranking.cumulative(None if is_roc else _shares_of_regions)
        fpr, rate = thinned(good / good[-1], defect / defect[-1])
        display = cls(fpr=fpr, rate=rate, area=area, curve=curve, max_fpr=limit, name=name)
        return display.plot(ax=ax, **plot_params)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        plot_chance_level: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; several curves may share axes. None: a new figure.
        name : str, default=None
            Name in the legend; None: the one of the object.
        plot_chance_level : bool, default=False
            Whether to draw the curve of random maps.
        **kwargs : dict
            Passed to matplotlib's `plot`.

        Returns
        -------
        display : PixelCurveDisplay
            Itself.

        Raises
        ------
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(type(self).__name__)
        ax = axes_or_new(ax)
        self.ax_, self.figure_ = ax, ax.figure
        name = self.name if name is None else name
        title = "AUC" if self.curve == "roc" else f"PRO to {self.max_fpr:g}"
        label = f"{title} = {self.area:.3f}"
        kwargs = {"label": f"{name} ({label})" if name else label} | kwargs
        (self.line_,) = ax.plot(self.fpr, self.rate, **kwargs)
        self.chance_level_ = None
        if plot_chance_level:
            (self.chance_level_,) = ax.plot(
                [0, 1], [0, 1], color="black", linestyle="dashed", linewidth=1, label="chance"
            )
        overlap = "True-positive rate" if self.curve == "roc" else "Per-region overlap"
        ax.set(
            xlabel="False-positive rate (pixels)",
            ylabel=f"{overlap} (pixels)" if self.curve == "roc" else overlap,
            xlim=(-0.01 * self.max_fpr, 1.01 * self.max_fpr),
            ylim=(-0.01, 1.01),
        )
        ax.legend(loc="lower right")
        return self
