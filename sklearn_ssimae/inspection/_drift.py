"""Whether what arrives still looks as the training images did, and if not, what moved."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_ssimae._deciding.drift import FALSE_ANNOUNCEMENTS, Martingales
from sklearn_ssimae._deciding.looks import kinds_of
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae.inspection._defects import check_detector
from sklearn_ssimae.inspection._plotting import FOUND, axes_or_new, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Images that are searched for the beginning, and by the medians of which it is said how far what
# has moved, at most. One image counts as so many standard deviations at most.
_RECENT, _MOST_COUNTED, _ODD = 200, 50, 2.0
# Standard deviations of good images by which a median must have moved to matter, and below which
# it has come back.
_MATTERS, _IS_BACK = 1.5, 1.0
# A measure is named if it has moved by so large a share of what the leading one has. Another leads
# once it has moved so many times as far.
_NAMED, _LEADS, _MOST_NAMED = 0.25, 1.5, 3
# Deviations are taken to be so large at least: half a percent, a tenth of a degree.
_LEAST_DEVIATION, _LEAST_TURN = 0.005, 0.1
# Another product: the pattern's likeness lies below such a share of that of good images, or the
# residuals of most images at so many times the threshold, and two other measures so many standard
# deviations off.
_UNLIKE, _FAR_ABOVE, _FAR = 0.5, 2.0, 3.0
_OF_THE_PATTERN = {"likeness", "scale", "turn"}
_WORDS = {
    "scale": "scale of the pattern",
    "likeness": "likeness of the pattern",
    "residual": "largest residual",
}
# Images that a picture shows, at most; of more, every second one is forgotten, and so on.
_SHOWN = 2000


class DriftMonitor:
    """Tells when images no longer look as the training images did, and what moved.

    Give it each image as it arrives. It measures brightness, contrast, fine detail, the pattern's
    scale and turn, how like the pattern is to that of the training images, of colour images the
    shares of red and blue, and the largest residual, and compares them with those of the
    training images. What is in few places of an image, or in few images, as defects are, is no
    drift. Pixels outside the region or transparent do not count.

    Parameters
    ----------
    detector : detector
        A fitted detector of this package.

    Attributes
    ----------
    drifted_ : bool
        Whether the latest images look otherwise. False again once the medians of the latest 50
        lie where those of the training images did.
    since_ : int or None
        Number of the image, counted from 1, from which on they do, as an estimate.
    moved_ : dict
        The measures that moved most, three at most, and by how many standard deviations of the
        training images.
    n_images_ : int
        Images that were given and of which some pixels count.
    ax_ : matplotlib Axes
        Those of :meth:`plot`.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    ThresholdDisplay : Scores of images beside the threshold.

    Notes
    -----
    *False announcements.* If images are as likely to come in any order as the training images were,
    one is ever announced with a probability of at most 1 %, however many images come. Each
    measure is tested by a conformal test martingale: images' ranks among all earlier ones are
    bet on, and the capital won is the evidence [1]_. Besides, the median of the images since the
    change must lie 1.5 standard deviations off. A change that lasts is announced, a small one
    later; images of other days or lots than those that were trained on may have changed in earnest.

    *Few training images.* A third of the training images, 50 at most, gives the pattern to compare
    with, the others the ranks. With fewer than about 15 training images, changes within the
    first images cannot be told from chance.

    *Words.* Fine detail, over the contrast, is called noise if there is more, and sharpness if
    there is less. Changes of the turn are told up to 15°, of the scale up to 17 %. Residuals are
    left out where no whole image was kept from training, or the map is another one than in `fit`.

    References
    ----------
    .. [1] V. Vovk, I. Petej, I. Nouretdinov, E. Ahlberg, L. Carlsson and A. Gammerman, "Retrain or
       not retrain: conformal test martingales for change-point detection", Proceedings of
       Machine Learning Research 152 (COPA), 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> from sklearn_ssimae.inspection import DriftMonitor
    >>> random = np.random.default_rng(0)
    >>> phases, light = random.uniform(0, 6, (80, 1, 1)), random.normal(0.5, 0.005, (80, 1, 1))
    >>> stripes = light + 0.2 * np.sin(np.arange(64) + phases * np.ones((64, 64)))
    >>> detector = L2AutoencoderDetector(
    ...     patch_size=32, latent_dim=4, n_patches=100, max_iter=5, random_state=0
    ... ).fit(stripes[:60])
    >>> monitor = DriftMonitor(detector).update(stripes[60:])
    >>> monitor.describe()
    'no drift in 20 images'
    >>> monitor.update(1.1 * stripes[60:]).drifted_
    True
    >>> monitor.describe().split(", ")[0]
    'brightness 10 % above'
    """

    def __init__(self, detector: Any) -> None:
        check_detector(detector, "DriftMonitor")
        check_is_fitted(detector)
        looks = detector._calibration.looks
        if looks is None or not len(looks.looks):
            raise ValueError(
                "DriftMonitor compares with the training images, and this detector holds no "
                "looks of them, as after a fit of one image or one that ended with an error. Fit "
                "it on more good images."
            )
        self.detector = detector
        self._looks = looks
        self._n_channels = detector.network_.config["n_channels"]
        self._are_logarithms = detector._make_comparison().gives_logarithms
        good = dict(zip(kinds_of(self._n_channels), looks.looks.T, strict=True))
        scores = _kept_scores(detector)
        if len(scores):
            good["residual"] = self._strength(scores)
        self._kinds = list(good)
        self._centre = np.array([np.median(values) for values in good.values()])
        self._deviation = np.array([_deviation(kind, good[kind]) for kind in good])
        distances = [
            (values - centre) / deviation
            for values, centre, deviation in zip(
                good.values(), self._centre, self._deviation, strict=True
            )
        ]
        self._test = Martingales(distances, np.random.default_rng(0))
        self._recent: deque[np.ndarray] = deque(maxlen=_RECENT)
        self._history: list[tuple[int, np.ndarray]] = []
        self._shown_every = 1
        self._leading = ""
        self._is_other = False
        self.n_images_ = 0
        self.drifted_ = False
        self.since_: int | None = None
        self.moved_: dict[str, float] = {}

    @own_state()
    def update(self, X: Any) -> Self:
        """Take further images, in the order in which they came.

        Parameters
        ----------
        X : array or sequence
            Images, as for the detector's `transform`.

        Returns
        -------
        self : DriftMonitor

        Raises
        ------
        ValueError
            As `transform`.
        """
        images = self.detector._check_fitted_input(X)
        for given, residual, _ in self.detector._maps_and_values(images):
            self._take(self._measure(given.image, given.counts, residual))
        return self

    def describe(self) -> str:
        """What moved, by how much, and since which image, in one line.

        Returns
        -------
        line : str
            Such as "brightness 12 % above the training images since image 431".
        """
        if not self.drifted_:
            return f"no drift in {self.n_images_} images"
        shifts = dict(zip(self._kinds, self._deviation * self._moved_by(self.since_), strict=True))
        # "from" goes with "the training images".
        kinds = sorted(self.moved_, key=lambda kind: kind == "turn")
        parts = ", ".join(self._in_words(kind, shifts[kind]) for kind in kinds)
        line = f"{parts} the training images since" if parts else "since"
        if self._is_other:
            line = f"this does not look like what was learnt{': ' * bool(parts) or ' '}{line}"
        return f"{line} image {self.since_}"

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw how far each measure lay from the training images, image by image.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        monitor : DriftMonitor
            Itself.

        Raises
        ------
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        ax = axes_or_new(ax, figsize=(7, 3.5))
        self.ax_, self.figure_ = ax, ax.figure
        numbers = [number for number, _ in self._history]
        distances = np.array([distances for _, distances in self._history])
        ax.axhspan(-2, 2, color="0.9", label="95 % of good images")
        for kind, line in zip(self._kinds, distances.T, strict=False):
            style: dict[str, Any] = {"linewidth": 0.6, "color": "0.6"}
            if kind in self.moved_:
                style = {"linewidth": 1.5, "label": _WORDS.get(kind, kind)}
            ax.plot(numbers, line, **style)
        if self.since_ is not None:
            ax.axvline(self.since_, **FOUND)
        ax.set_yscale("symlog", linthresh=4)
        ax.set(xlabel="image", ylabel="standard deviations", title=self.describe())
        ax.title.set_wrap(True)
        ax.legend(loc="upper left")
        return self

    def _measure(
        self, image: np.ndarray, counts: np.ndarray | None, residual: np.ndarray
    ) -> np.ndarray:
        """The values (k,) of an image (h, w, c), of which some pixels count, and its map."""
        prepare = self.detector._preparation()
        planes = prepare.counting(prepare(image, "the image"), counts)
        look = self._looks.look(planes, self._n_channels)
        score = self._strength(np.array([residual.max()], dtype=np.float64))
        return np.concatenate([look, score])[: len(self._kinds)]

    def _strength(self, scores: np.ndarray) -> np.ndarray:
        """Largest residuals so that equal ratios are equal distances."""
        if self._are_logarithms:
            return scores
        return np.log(np.maximum(scores, np.finfo(np.float64).tiny))

    def _take(self, values: np.ndarray) -> bool:
        """Take the values of an image. Returns whether there is something new to say."""
        if np.isnan(values).any():  # no pixel counts
            return False
        said = self._leading, self._is_other
        self.n_images_ += 1
        distances = (values - self._centre) / self._deviation
        self._recent.append(distances)
        self._remember(distances)
        # Later images are compared with good ones alone: what has moved stays an oddity.
        self._test.update(distances, learns=not self.drifted_)
        certain = self._test.capital >= len(self._kinds) / FALSE_ANNOUNCEMENTS
        if not self.drifted_ and certain.any():
            self._look_whether_it_matters(certain)
        if self.drifted_:
            self._follow(certain)
        return (self._leading, self._is_other) != said

    def _look_whether_it_matters(self, certain: np.ndarray) -> None:
        since = [self._since(index) for index in range(len(certain))]
        far = np.abs([self._moved_by(number)[index] for index, number in enumerate(since)])
        far[~certain] = 0
        if far.max() >= _MATTERS:
            self.drifted_ = True
            self.since_ = since[int(far.argmax())]
            self._test.exclude(list(self._recent)[self.since_ - self.n_images_ - 1 :])

    def _follow(self, certain: np.ndarray) -> None:
        """What has moved by now, and whether it has come back."""
        far = np.abs(self._moved_by(self.since_))
        # Residuals follow from the rest: they count and lead if nothing else has moved.
        sure = {kind for kind, is_sure in zip(self._kinds, certain, strict=True) if is_sure}
        judged = {*(sure - {"residual"}), self._leading}
        if self._leading and all(far[self._kinds.index(kind)] < _IS_BACK for kind in judged):
            self._test.forget()
            self._recent.clear()
            self.drifted_, self.since_, self.moved_ = False, None, {}
            self._leading, self._is_other = "", False
            return
        moved = {kind: float(far[i]) for i, kind in enumerate(self._kinds) if far[i] >= _IS_BACK}
        first = max(moved, key=lambda kind: (kind != "residual", moved[kind]))
        may_lead = not self._leading or first in sure
        if may_lead and moved[first] > _LEADS * moved.get(self._leading, 0):
            self._leading = first
            self.since_ = self._since(self._kinds.index(first))
        self._is_other |= self._is_another_product(moved)
        ordered = sorted(moved, key=lambda kind: (kind == "residual", -moved[kind]))
        least = max(_MATTERS, _NAMED * moved[ordered[0]]) if ordered else 0
        named = ordered[:1] + [kind for kind in ordered[1:] if moved[kind] >= least]
        self.moved_ = {kind: moved[kind] for kind in named[:_MOST_NAMED]}

    def _is_another_product(self, moved: dict[str, float]) -> bool:
        medians = self._centre + self._deviation * self._moved_by(self.since_)
        values = dict(zip(self._kinds, medians, strict=True))
        if values["likeness"] < _UNLIKE * self._centre_of("likeness"):
            # What scale or turn a strange pattern seems to have means nothing.
            for kind in moved.keys() & _OF_THE_PATTERN:
                del moved[kind]
            return True
        threshold = self._strength(np.array([self.detector._threshold_in_force()]))[0]
        is_far_above = values.get("residual", -np.inf) > threshold + math.log(_FAR_ABOVE)
        others = [kind for kind in moved if kind != "residual" and moved[kind] >= _FAR]
        return bool(is_far_above and len(others) > 1)

    def _since(self, index: int) -> int:
        """From which image on a measure has moved: as if by a normal distribution's likelihood."""
        latest = np.array(self._recent)[::-1, index]
        sums = latest.clip(-_ODD, _ODD).cumsum()
        n_images = int((sums**2 / np.arange(1, len(sums) + 1)).argmax()) + 1
        return self.n_images_ - n_images + 1

    def _moved_by(self, since: int | None) -> np.ndarray:
        """Medians (k,) of the latest images, none before that number, in standard deviations."""
        n_images = min(self.n_images_ - (since or 1) + 1, _MOST_COUNTED)
        return np.asarray(np.median(list(self._recent)[-n_images:], axis=0))

    def _remember(self, distances: np.ndarray) -> None:
        if self.n_images_ % self._shown_every == 0:
            self._history.append((self.n_images_, distances))
        if len(self._history) > _SHOWN:
            del self._history[1::2]
            self._shown_every *= 2

    def _in_words(self, kind: str, shift: float) -> str:
        if kind == "turn":
            return f"pattern turned by {_short(abs(shift))}° from"
        direction = "above" if shift > 0 else "below"
        if kind == "residual" and self._are_logarithms:
            return f"largest residual {_short(abs(shift))} {direction}"
        change = shift / self._centre_of(kind) if kind == "likeness" else math.expm1(shift)
        name = _WORDS.get(kind, kind)
        if kind == "detail":
            name = "noise" if shift > 0 else "sharpness"
        return f"{name} {_short(100 * abs(change))} % {direction}"

    def _centre_of(self, kind: str) -> float:
        return float(self._centre[self._kinds.index(kind)])


def _kept_scores(detector: Any) -> np.ndarray:
    """Largest residuals of whole images that were kept from training, by the map as it is now."""
    levels = detector._calibration.levels
    if levels is None or levels.growth.any() or detector._changes_of_map():
        return np.empty(0)
    return np.asarray(levels.largest)


def _deviation(kind: str, values: np.ndarray) -> float:
    """Standard deviation of good images, by the median deviation."""
    deviation = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    return max(deviation, _LEAST_TURN if kind == "turn" else _LEAST_DEVIATION)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 1 else f"{value:.1g}"
