"""How images look, in a few numbers: a change of light, focus, pose or product moves them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import ndimage
from torch import Tensor

#: What the numbers of a look tell; an image of three channels has those of
#: `COLOURS`, too.
KINDS = ("brightness", "contrast", "detail", "scale", "turn", "likeness")
COLOURS = ("red", "blue")
#: So many images tell how good ones look.
MAX_LOOKED_AT = 300

# A look comes from so many tiles along either side, of so many pixels, by medians: what is in
# few places, as a defect is, does not move it.
_N_TILES, _TILE = 4, 128
# Images are padded to so many pixels by replication.
_LEAST_SIDE = 8
# A tile takes part if it has so large a share of the counting pixels of the fullest one.
_FULL_ENOUGH = 0.5
# Of the range of values: flat and black images have logarithms, too.
_DARK = 2e-4
# Of the standard deviation: the fine detail of images that have none.
_SMOOTH = 1e-3
# The spectrum is taken at angles of 1° and lengths of waves in ratios of 2 %, from the longest
# that a tile holds some of, to the shortest. Sharp peaks are made so much wider.
_ANGLES, _RATIO, _WAVES, _BLUR = 180, 0.02, 128, 1.5
_HIGHEST = 0.47
# Turns, in degrees, and scales, in steps of the ratio, that are looked for.
_MOST_TURN, _MOST_SCALE = 15, 8
# Images that the mean spectrum is of, at most, and their share: they are compared with nothing.
_MAX_REFERENCE, _SHARE = 50, 1 / 3


@dataclass(frozen=True, eq=False)
class GoodLooks:
    """The looks of the training images.

    Parameters
    ----------
    spectrum : ndarray of shape (_ANGLES, _WAVES)
        Mean of those of some images, against which scale, turn and likeness are measured.
    looks : float64 ndarray of shape (n, n_looks)
        Of the other images: a further good one is as likely to have each of the ranks among them.
    """

    spectrum: np.ndarray
    looks: np.ndarray

    @classmethod
    def of(cls, images: Iterable[Tensor], n_images: int, n_channels: int) -> Self:
        """Those of images in an order by chance, as planes; see `look`."""
        n_reference = min(_MAX_REFERENCE, math.ceil(_SHARE * n_images))
        spectrum = np.zeros((_ANGLES, _WAVES))
        good = cls(spectrum, np.empty((0, len(kinds_of(n_channels)))))
        looks = []
        for index, planes in enumerate(images):
            if index < n_reference:
                spectrum += _spectrum(_Tiles(planes, n_channels).grey) / n_reference
            else:
                looks.append(good.look(planes, n_channels))
        array = np.array(looks).reshape(-1, len(kinds_of(n_channels)))
        return cls(spectrum.astype(np.float32), array[~np.isnan(array).any(1)])

    def look(self, planes: Tensor, n_channels: int) -> np.ndarray:
        """The look of an image.

        Parameters
        ----------
        planes : Tensor of shape (c, h, w) or (c + 1, h, w)
            Values in [0, 1], as of `with_counts` where some pixels do not count.
        n_channels : int
            c.

        Returns
        -------
        look : float64 ndarray of shape (n_looks,)
            By `KINDS`: the logarithms of the mean, of the standard deviation over the mean, of the
            finest differences over the standard deviation, and of the pattern's scale; its turn
            clockwise, in degrees; how like the spectrum is, at most 1. Of three channels, the
            logarithms of the first and the last over the mean. Not numbers if no pixel counts.
        """
        tiles = _Tiles(planes, n_channels)
        if not tiles.counts.any():
            return np.full(len(kinds_of(n_channels)), np.nan)
        mean, deviation = tiles.mean(tiles.grey), tiles.mean(tiles.centred**2) ** 0.5
        finest = tiles.mean(np.abs(_finest(tiles.grey)))
        looks = [
            np.log(mean + _DARK),
            np.log((deviation + _DARK) / (mean + _DARK)),
            np.log(finest / (deviation + _DARK) + _SMOOTH),
        ]
        medians = [np.median(values) for values in looks]
        medians += _compared(_spectrum(tiles.centred), self.spectrum)
        if n_channels == 3:
            for channel in (0, -1):
                share = (tiles.mean(tiles.values[:, channel]) + _DARK) / (mean + _DARK)
                medians.append(np.median(np.log(share)))
        return np.array(medians, dtype=np.float64)


def kinds_of(n_channels: int) -> tuple[str, ...]:
    """What the numbers of a look tell."""
    return KINDS + COLOURS if n_channels == 3 else KINDS


class _Tiles:
    """Tiles that are evenly spread over an image; those of which enough counts.

    Parameters
    ----------
    planes : Tensor of shape (c, h, w) or (c + 1, h, w)
    n_channels : int
    """

    def __init__(self, planes: Tensor, n_channels: int) -> None:
        image = planes.cpu().numpy().astype(np.float64)
        short = [(0, max(0, _LEAST_SIDE - side)) for side in image.shape[1:]]
        image = np.pad(image, [(0, 0), *short], mode="edge")
        tiles = np.stack(
            [
                image[:, top : top + _TILE, left : left + _TILE]
                for top in _starts(image.shape[1])
                for left in _starts(image.shape[2])
            ]
        )
        counts = tiles[:, -1] > 0 if len(image) > n_channels else np.ones(tiles[:, 0].shape, bool)
        n_counting = counts.sum((1, 2))
        chosen = n_counting >= _FULL_ENOUGH * n_counting.max()
        self.values: np.ndarray = tiles[chosen, :n_channels]
        self.counts: np.ndarray = counts[chosen]
        self.grey: np.ndarray = self.values.mean(1)

    @property
    def centred(self) -> np.ndarray:
        return self.grey - self.mean(self.grey)[:, None, None]

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means (n,) of the values (n, h, w) that count."""
        return np.array([v[c].mean() for v, c in zip(values, self.counts, strict=True)])


def _starts(side: int) -> list[int]:
    n_tiles = min(_N_TILES, -(-side // _TILE))
    starts: list[int] = np.linspace(0, max(0, side - _TILE), n_tiles).astype(int).tolist()
    return starts


def _finest(values: np.ndarray) -> np.ndarray:
    """Second differences (n, h, w) along both axes, which noise moves most [1]_.

    References
    ----------
    .. [1] J. Immerkær, "Fast Noise Variance Estimation", Computer Vision and Image Understanding
       64(2), 1996.
    """
    kernel = np.array([1, -2, 1])
    rows = ndimage.correlate1d(values, kernel, axis=1, mode="nearest")
    differences: np.ndarray = ndimage.correlate1d(rows, kernel, axis=2, mode="nearest") / 6
    return differences


def _spectrum(tiles: np.ndarray) -> np.ndarray:
    """Logarithm of the power of tiles (n, h, w) by angle and length of the waves, without level."""
    height, width = tiles.shape[1:]
    # Round: what leaks from strong waves must not lie along the axes, which do not turn.
    radius = np.hypot(np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width))
    window = np.cos(np.pi / 2 * radius.clip(max=1)) ** 2
    power = np.median(np.abs(np.fft.fftshift(np.fft.fft2(tiles * window), (1, 2))) ** 2, axis=0)
    angles = np.deg2rad(np.arange(_ANGLES))[:, None]
    frequencies = _HIGHEST * np.exp(-_RATIO * np.arange(_WAVES))
    places = [
        side // 2 + side * frequencies * wave(angles)
        for side, wave in ((height, np.sin), (width, np.cos))
    ]
    polar = np.log(ndimage.map_coordinates(power, places, order=1) + _DARK**2)
    # By length, more is in long waves than in short ones, and blur and noise change that.
    polar = ndimage.gaussian_filter(polar - polar.mean(0), _BLUR, mode=("wrap", "nearest"))
    return np.asarray(polar)


def _compared(spectrum: np.ndarray, reference: np.ndarray) -> list[float]:
    """Scale as a logarithm, turn in degrees and likeness of a spectrum, by the best match."""
    inner = slice(_MOST_SCALE, _WAVES - _MOST_SCALE)
    part, waves = reference[:, inner], np.fft.rfft(spectrum, axis=0)
    scales = np.arange(-_MOST_SCALE, _MOST_SCALE + 1)
    turns = np.arange(-_MOST_TURN, _MOST_TURN + 1)
    moved = np.conj(np.fft.rfft(part, axis=0))
    likeness = np.empty((len(scales), len(turns)))
    for row, scale in enumerate(scales):
        other = slice(_MOST_SCALE + scale, _WAVES - _MOST_SCALE + scale)
        product = (waves[:, other] * moved).sum(1)
        size = np.linalg.norm(spectrum[:, other]) * np.linalg.norm(part) + np.finfo(float).tiny
        likeness[row] = np.fft.irfft(product, _ANGLES)[turns] / size
    best = np.unravel_index(likeness.argmax(), likeness.shape)
    scale, turn = (
        along[index] + _between(line, index)
        for along, index, line in (
            (scales, best[0], likeness[:, best[1]]),
            (turns, best[1], likeness[best[0]]),
        )
    )
    return [float(_RATIO * scale), float(turn), float(likeness.max())]


def _between(line: np.ndarray, index: Any) -> float:
    """How far from the largest value of a line the top of the parabola lies."""
    if not 0 < index < len(line) - 1:
        return 0.0
    before, at, after = line[index - 1 : index + 2]
    curvature = before - 2 * at + after
    return float((before - after) / (2 * curvature)) if curvature < 0 else 0.0
