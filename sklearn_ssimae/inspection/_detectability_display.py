"""Curves of the probability that a drawn defect is found, by its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import Bunch

from sklearn_ssimae.inspection._detectability import detectability
from sklearn_ssimae.inspection._plotting import FOUND, TRUE, require_matplotlib
from sklearn_ssimae.inspection._pod import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Panels in a row, and inches of one.
_COLUMNS, _WIDTH, _HEIGHT = 4, 3.0, 2.6
# Defects to a dot of the binned hits; bins of sizes and of contrasts of a heat map.
_TO_A_DOT, _BINS = 15, (6, 4)


class DetectabilityDisplay:
    """What share of drawn defects a detector finds: a panel for each kind.

    The share of hits (dots, each of as many defects) by size, the curve that was fitted to them,
    and a line at a90/95, the size that is found with a probability of 90 % at a confidence of 95 %.
    Dots off the curve show that it fits badly. Of stains and dents a second panel shows the share
    by size and contrast; brighter is found more often.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    found : dict of Bunch
        What :func:`detectability` returns.
    unit : str, default="pixels"
        Of the sizes.

    Attributes
    ----------
    curves_ : dict of matplotlib Line2D
        The curve of each kind that was found at all.
    axes_ : ndarray of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    detectability : The numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.utils import Bunch
    >>> from sklearn_ssimae.inspection import DetectabilityDisplay
    >>> sizes = np.geomspace(2, 60, 90)
    >>> stains = Bunch(sizes=sizes, hits=sizes > 9, contrasts=np.full(90, 0.2), a50=9.1, a90=9.6,
    ...                a90_95=10.8, intercept=-66.0, slope=30.0, faded=Bunch())
    >>> display = DetectabilityDisplay(found={"stain": stains}).plot()
    >>> display.axes_[0].get_title()
    'stain: a90/95 = 10.8'
    """

    def __init__(self, *, found: dict[str, Bunch], unit: str = "pixels") -> None:
        self.found = found
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        mm_per_pixel: float | None = None,
        random_state: Any = None,
        figure: Any = None,
    ) -> Self:
        """Draw defects into good images, let a detector look for them, and draw the curves.

        Parameters
        ----------
        estimator : detector
            A fitted detector of this package.
        X : array or sequence
            Good images that were not trained on, as for the detector's `transform`.
        mm_per_pixel : float, default=None
            Side of a pixel in millimetres.
        random_state : int, RandomState or None, default=None
            Pass an int for the same defects each time.
        figure : matplotlib Figure, default=None
            Where to draw. None: a new one.

        Returns
        -------
        display : DetectabilityDisplay
            With what was computed, and drawn.

        Raises
        ------
        TypeError
            When the estimator is of another kind.
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        found = detectability(estimator, X, mm_per_pixel=mm_per_pixel, random_state=random_state)
        return cls(found=found, unit="pixels" if mm_per_pixel is None else "mm").plot(figure=figure)

    def plot(self, *, figure: Any = None) -> Self:
        """Draw what was computed.

        Parameters
        ----------
        figure : matplotlib Figure, default=None
            Where to draw. None: a new one.

        Returns
        -------
        display : DetectabilityDisplay

        Raises
        ------
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        maps = [kind for kind, found in self.found.items() if len(found.faded.get("sizes", []))]
        n_panels = len(self.found) + len(maps)
        n_columns = min(_COLUMNS, n_panels)
        n_rows = -(-n_panels // n_columns)
        if figure is None:
            size = (_WIDTH * n_columns, _HEIGHT * n_rows)
            figure = plt.figure(figsize=size, layout="constrained")
        self.figure_ = figure
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for ax in grid[n_panels:]:
            ax.remove()
        self.axes_ = grid[:n_panels]
        self.curves_: dict[str, Any] = {}
        for ax, (kind, found) in zip(self.axes_, self.found.items(), strict=False):
            self._draw_curve(ax, kind, found)
        for ax, kind in zip(self.axes_[len(self.found) :], maps, strict=True):
            self._draw_contrasts(ax, kind, self.found[kind])
        return self

    def _draw_curve(self, ax: Axes, kind: str, found: Bunch) -> None:
        ax.set(title=f"{kind}: {_summary(found)}", ylim=(-0.04, 1.04), ylabel="share found")
        if len(found.sizes) == 0:
            ax.set(xticks=[], yticks=[])
            return
        ax.set(xscale="log", xlabel=f"size: {self.unit}")
        _plain_numbers(ax.xaxis)
        order = np.argsort(found.sizes)
        bins = np.array_split(order, max(1, len(order) // _TO_A_DOT))
        middles = [np.exp(np.log(found.sizes[chosen]).mean()) for chosen in bins]
        ax.plot(middles, [found.hits[chosen].mean() for chosen in bins], "o", color="black", ms=4)
        if np.isfinite(found.slope):
            sizes = np.geomspace(found.sizes.min(), found.sizes.max(), 200)
            curve = Curve(*(found[name] for name in Curve._fields))
            (self.curves_[kind],) = ax.plot(sizes, curve(sizes), **FOUND)
        if np.isfinite(found.a90_95):
            ax.axvline(found.a90_95, **TRUE)

    def _draw_contrasts(self, ax: Axes, kind: str, found: Bunch) -> None:
        sizes, contrasts, hits = (
            np.concatenate([found[name], found.faded[name]])
            for name in ("sizes", "contrasts", "hits")
        )
        contrasts = contrasts.clip(1e-3)
        edges = [
            np.geomspace(values.min(), values.max() * 1.001, n + 1)
            for values, n in zip((sizes, contrasts), _BINS, strict=True)
        ]
        drawn = np.histogram2d(sizes, contrasts, edges)[0]
        share = np.histogram2d(sizes, contrasts, edges, weights=hits)[0] / np.where(drawn, drawn, 1)
        shown = np.ma.masked_where(drawn == 0, share).T
        mesh = ax.pcolormesh(*edges, shown, cmap="cividis", vmin=0, vmax=1)
        ax.figure.colorbar(mesh, ax=ax, label="share found")
        ax.set(xscale="log", yscale="log", xlabel=f"size: {self.unit}", ylabel="contrast")
        ax.set_title(f"{kind} by contrast")
        _plain_numbers(ax.xaxis)
        _plain_numbers(ax.yaxis)


def _plain_numbers(axis: Axis) -> None:
    """Label 1, 2, 5 and their tenfolds: powers of ten would be few, and all ticks collide."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _summary(found: Bunch) -> str:
    """What is found of a kind, in a few words."""
    if len(found.sizes) == 0:
        return "not drawn"
    if np.isfinite(found.a90_95):
        return f"a90/95 = {found.a90_95:.3g}"
    return "no a90/95" if found.hits.any() else "never found"
