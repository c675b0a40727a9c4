"""Woven cloth as yarns: how they are spun and woven, and what is seen of them from above.

Lengths are in samples of the surface, `SCALE` to a pixel; its rows run across the picks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

SCALE = 2

# Height of a yarn's section over its width: yarns flatten where they press on each other.
_FLATNESS = 0.7
# How much wider a yarn is where it floats than between, and narrower where it is bound.
_SPREAD = 0.08
# Ridges of the twist, in pitches of the yarns: height, distance along a yarn and across it.
_RIDGE_HEIGHT, _RIDGE_ALONG, _RIDGE_ACROSS = 0.04, 1.0, 0.5
# Unevenness of yarns, relative to their pitch, width and tone: from one to the next, and along.
_PLACE_NOISE, _WIDTH_NOISE, _TONE_NOISE = (0.04, 0.04), (0.04, 0.07), (0.035, 0.05)
_FIBRE_NOISE = 0.35
_FLOOR_TONE = 0.06


@dataclass(frozen=True)
class Article:
    """A cloth as a mill would order it; pairs are for warp and weft.

    End i lies over pick j where (i - step j) modulo `repeat` is less than `up`.
    """

    repeat: int
    up: int
    step: int
    pitch: tuple[float, float]  # distance between yarns, in pixels
    cover: tuple[float, float]  # width of the yarns, in pitches
    tone: tuple[float, float]  # share of the light that the yarns reflect

    def lift(self, ends: np.ndarray, picks: np.ndarray) -> np.ndarray:
        """+1 where ends lie over picks, -1 elsewhere (n_ends, n_picks)."""
        return np.where((ends[:, None] - self.step * picks) % self.repeat < self.up, 1.0, -1.0)


@dataclass
class Yarns:
    """The n parallel yarns of the warp or the weft."""

    pitch: float
    place: np.ndarray  # mean position (n,) across the yarns
    centre: np.ndarray  # position (n, length)
    radius: np.ndarray  # half of the width (n, length); 0 where there is no yarn
    tone: np.ndarray  # (n, length)
    twist: np.ndarray  # phase of the ridges (n, length)
    fibres: np.ndarray  # factor of the tone at each place (across, along)
    rise: np.ndarray  # height (n, length) of yarns that do not keep to their place
    lift: np.ndarray  # +1 over, -1 under the crossing yarns (n, n_crossing)
    crimp: float = 0.0  # height of the axis where the lift is 1

    def nearest(self, position: float) -> int:
        """Index of the yarn that lies nearest to a position across them."""
        return int(np.abs(self.place - position).argmin())


@dataclass
class Strand:
    """A thread that lies on the cloth: points (n, 2) along it, a sample or less apart."""

    points: np.ndarray
    radius: float
    tone: float


@dataclass
class Cloth:
    """Yarns, and what lies on and in them; fields have the shape (h, w) of the surface."""

    warp: Yarns
    weft: Yarns
    hairs: np.ndarray  # how much fibre stands out
    dye: np.ndarray  # factor of the tone
    strands: list[Strand] = field(default_factory=list)


def weave_cloth(article: Article, shape: tuple[int, int], random: np.random.RandomState) -> Cloth:
    """A piece of cloth whose surface has the shape (h, w)."""
    warp = _spin(article, 0, shape[::-1], random)
    weft = _spin(article, 1, shape, random)
    first_end, first_pick = random.randint(article.repeat, size=2)
    warp.lift = article.lift(
        first_end + np.arange(len(warp.place)), first_pick + np.arange(len(weft.place))
    )
    weft.lift = -warp.lift.T
    # Peirce: the heights of both systems' waves add up to the thickness of both yarns. Here,
    # as in his square cloth, both take half of it.
    warp.crimp = weft.crimp = _FLATNESS * float(warp.radius.mean() + weft.radius.mean()) / 2
    return Cloth(warp, weft, _hairs(shape, random), np.ones(shape, dtype=np.float32))


def _spin(
    article: Article, system: int, shape: tuple[int, int], random: np.random.RandomState
) -> Yarns:
    """Yarns over an area (across, along): no two alike, and none the same all along."""
    across, length = shape
    pitch = SCALE * article.pitch[system]
    n = int(np.ceil(across / pitch)) + 3
    apart, width, tone = (
        scale * random.normal(size=n) for scale, _ in (_PLACE_NOISE, _WIDTH_NOISE, _TONE_NOISE)
    )
    wander, thickness, shade, turn = (
        smooth_noise((n, length), reach * pitch, random) for reach in (5, 3, 4, 6)
    )
    place = pitch * (np.arange(n) - random.uniform(0.5, 1.5) + apart)
    radius = pitch / 2 * article.cover[system] * (1 + width)
    turns = np.arange(length) / (_RIDGE_ALONG * pitch) + random.uniform(size=(n, 1)) + 0.3 * turn
    fibres = random.uniform(-1, 1, size=shape).astype(np.float32)
    ndimage.gaussian_filter1d(fibres, 1.5 * SCALE, axis=1, output=fibres)
    return Yarns(
        pitch=pitch,
        place=place,
        centre=place[:, None] + _PLACE_NOISE[1] * pitch * wander,
        radius=radius[:, None] * (1 + _WIDTH_NOISE[1] * thickness),
        tone=article.tone[system] * (1 + tone[:, None]) * (1 + _TONE_NOISE[1] * shade),
        twist=2 * np.pi * turns,
        fibres=1 + _FIBRE_NOISE * fibres,
        rise=np.zeros((n, length)),
        lift=np.empty((n, 0)),
    )


def smooth_noise(shape: tuple[int, int], reach: float, random: np.random.RandomState) -> np.ndarray:
    """Rows of noise of mean 0 and variance about 1 that changes within `reach` columns."""
    position = random.uniform() + np.arange(shape[1]) / reach
    return _glide(random.normal(size=(shape[0], int(position[-1]) + 2)), position)


def _glide(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Rows of values (n, k) read between their columns, and level at the columns."""
    before = np.clip(position.astype(int), 0, values.shape[1] - 2)
    step = position - before
    step = step * step * (3 - 2 * step)
    return values[:, before] * (1 - step) + values[:, before + 1] * step


def _hairs(shape: tuple[int, int], random: np.random.RandomState) -> np.ndarray:
    """How much loose fibre there is at each sample: curved hairs, a pitch or two long."""
    corner = np.reshape(shape, (2, 1, 1))
    n = shape[0] * shape[1] // 900
    along = random.uniform(10, 36, size=(n, 1)) * np.linspace(0, 1, 48)
    heading = random.uniform(0, 2 * np.pi, size=(n, 1)) + random.normal(scale=0.05) * along
    course = np.cumsum(along[:, 1:2] * np.stack([np.sin(heading), np.cos(heading)]), axis=2)
    course += corner * random.uniform(size=(2, n, 1))
    rows, columns = np.clip(course.astype(int), 0, corner - 1)
    amount = np.broadcast_to(along[:, 1:2] * random.uniform(0.3, 1, size=(n, 1)), rows.shape)
    places = (rows * shape[1] + columns).ravel()
    counts = np.bincount(places, amount.ravel(), minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.float32)


def surface(cloth: Cloth) -> tuple[np.ndarray, np.ndarray]:
    """Height and tone (h, w), float32, of what is seen of the cloth from above."""
    height, tone = _lay(cloth.weft, cloth.warp.place, hand=1)
    # Seen in a mirror, as transposing does, a right-hand twist is a left-hand one.
    warp_height, warp_tone = _lay(cloth.warp, cloth.weft.place, hand=-1)
    is_warp = height < warp_height.T
    np.copyto(height, warp_height.T, where=is_warp)
    np.copyto(tone, warp_tone.T, where=is_warp)
    tone *= cloth.dye
    for strand in cloth.strands:
        _lay_strand(strand, cloth.weft.fibres, height, tone)
    return height, tone


def _lay(yarns: Yarns, crossings: np.ndarray, hand: int) -> tuple[np.ndarray, np.ndarray]:
    """Height and tone (across, along) of one system of yarns, and of the floor between."""
    shape = yarns.fibres.shape
    order = np.interp(np.arange(shape[1]), crossings, np.arange(len(crossings)))
    lift = _glide(yarns.lift, order)
    reach = yarns.radius * (1 + _SPREAD * lift)
    first = np.floor((yarns.centre - reach).min(axis=1)).astype(int).clip(0)
    last = np.ceil((yarns.centre + reach).max(axis=1)).astype(int).clip(0, shape[0] - 1) + 1
    axis, radius, centre, shade, twist = (
        part.astype(np.float32)
        for part in (yarns.crimp * lift + yarns.rise, reach, yarns.centre, yarns.tone, yarns.twist)
    )
    ridges = 2 * np.pi * hand / (_RIDGE_ACROSS * yarns.pitch)
    height = np.full(shape, -2 * yarns.pitch, dtype=np.float32)
    tone = np.full(shape, _FLOOR_TONE, dtype=np.float32)
    for index in np.flatnonzero(first < last):
        rows = np.arange(first[index], last[index])
        across = rows[:, None].astype(np.float32) - centre[index]
        bulge = radius[index] ** 2 - across**2
        top = axis[index] + _FLATNESS * np.sqrt(bulge.clip(0))
        top += _RIDGE_HEIGHT * yarns.pitch * np.cos(twist[index] + ridges * across)
        strip = slice(first[index], last[index])
        is_seen = (bulge > 0) & (top > height[strip])
        np.copyto(height[strip], top, where=is_seen)
        np.copyto(tone[strip], shade[index] * yarns.fibres[strip], where=is_seen)
    return height, tone


def _lay_strand(strand: Strand, fibres: np.ndarray, height: np.ndarray, tone: np.ndarray) -> None:
    """Draw a thread onto a surface, in place; it rests on what stands highest beneath it."""
    points = np.rint(strand.points).astype(int)
    points = points[((points >= 0) & (points < height.shape)).all(axis=1)]
    if not len(points):
        return
    reach = int(strand.radius) + 2
    low = (points.min(axis=0) - reach).clip(0)
    box = tuple(map(slice, low, points.max(axis=0) + reach + 1))
    along = np.full(height[box].shape, -1)
    along[tuple((points - low).T)] = np.arange(len(points))
    distance, nearest = ndimage.distance_transform_edt(along < 0, return_indices=True)
    bulge = strand.radius**2 - distance**2
    twist = np.pi * (along[tuple(nearest)] / 2 + distance) / strand.radius
    top = np.percentile(height[box], 95) + np.sqrt(bulge.clip(0))
    top += 0.15 * strand.radius * np.cos(twist)
    np.copyto(height[box], top, where=bulge > 0)
    np.copyto(tone[box], strand.tone * fibres[box], where=bulge > 0)
