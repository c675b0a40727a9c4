"""Faults of weaving, by the names that weavers give them, as changes of a cloth's yarns."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np

from sklearn_ssimae.datasets._cloth import SCALE, Cloth, Strand, Yarns, smooth_noise
from sklearn_ssimae.datasets._drawing import curve


def add_defect(
    cloth: Cloth, kind: str, view: tuple[slice, slice], random: np.random.RandomState
) -> Cloth:
    """A copy of the cloth with a defect whose middle lies well within the view."""
    cloth = deepcopy(cloth)
    share = random.uniform(0.2, 0.8, size=2)
    spot = np.array(
        [side.start + at * (side.stop - side.start) for side, at in zip(view, share, strict=True)]
    )
    DEFECTS[kind](cloth, spot, random)
    return cloth


def _missing_pick(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    _take_out(cloth.weft, cloth.warp, spot, random)


def _broken_end(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    _take_out(cloth.warp, cloth.weft, spot[::-1], random)


def _take_out(
    yarns: Yarns, crossing: Yarns, spot: np.ndarray, random: np.random.RandomState
) -> None:
    """Take out the yarn at `spot` (across, along): on one side of it or, as often, all along."""
    index = yarns.nearest(spot[0])
    side, begin = random.choice([-1, 1]), spot[1]
    along = np.arange(yarns.centre.shape[1])
    gone = np.clip(side * (along - begin) / yarns.pitch, 0, 1)
    if random.uniform() < 0.5:
        gone[:] = 1
    yarns.radius[index] *= 1 - gone
    # Nothing holds the crossing yarns there: they go straight on to the next crossing.
    free = np.interp(crossing.place, along, gone) > 0.5
    crossing.lift[free, index] = crossing.lift[free][:, [index - 1, index + 1]].mean(axis=1)
    _push(yarns, index, -random.uniform(0.25, 0.4) * yarns.pitch * gone)


def _push(yarns: Yarns, index: int, distance: np.ndarray) -> None:
    """Move a yarn's neighbours away from it."""
    yarns.centre[index - 1] -= distance
    yarns.centre[index + 1] += distance


def _float(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    """A few yarns miss their crossings and lie loose on the cloth, or under it."""
    n_ends, n_picks = random.randint(2, 5), random.randint(5, 10)
    # On a face of warp, a missed crossing of the warp shows less than one of the weft.
    if _shows_warp(cloth, random):
        over, n_ends, n_picks = -1.0, n_picks, n_ends
    else:
        over = 1.0
    end, pick = cloth.warp.nearest(spot[1]), cloth.weft.nearest(spot[0])
    ends = slice(max(end - n_ends // 2, 0), end - n_ends // 2 + n_ends)
    picks = slice(max(pick - n_picks // 2, 0), pick - n_picks // 2 + n_picks)
    cloth.warp.lift[ends, picks] = over
    cloth.weft.lift[picks, ends] = -over


def _shows_warp(cloth: Cloth, random: np.random.RandomState) -> bool:
    """Whether the face of the cloth shows warp rather than weft; drawn where it shows both."""
    return cloth.warp.lift.mean() + random.uniform(-0.4, 0.4) > 0


def _slub(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    """A yarn is thick and soft over a length."""
    yarns, spot = (cloth.warp, spot[::-1]) if _shows_warp(cloth, random) else (cloth.weft, spot)
    index = yarns.nearest(spot[0])
    length = SCALE * 2 ** random.uniform(5.5, 7.5)
    along = np.clip((np.arange(yarns.centre.shape[1]) - spot[1]) / length, -0.5, 0.5)
    shape = np.cos(np.pi * along) ** 1.5
    added = random.uniform(0.4, 0.75) * yarns.pitch * shape
    yarns.radius[index] += added
    yarns.rise[index] += 0.5 * added
    _push(yarns, index, 0.5 * added)


def _loose_weft(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    """A pick that was not held taut snarls, and stands off the cloth."""
    yarns = cloth.weft
    index = yarns.nearest(spot[0])
    length = SCALE * random.uniform(50, 130)
    offset = np.arange(yarns.centre.shape[1]) - spot[1]
    slack = np.cos(np.pi * np.clip(offset / length, -0.5, 0.5)) ** 0.5
    turn = 2 * np.pi * offset / (SCALE * random.uniform(18, 34)) + random.uniform(0, 2 * np.pi)
    turn += smooth_noise((1, len(offset)), SCALE * 30, random)[0]
    yarns.centre[index] += SCALE * random.uniform(4, 7) * slack * np.sin(turn)
    yarns.rise[index] += slack * yarns.pitch * (1.2 + 0.4 * np.cos(2 * turn))


def _hole(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    """Yarns of both systems are torn at one place, and drawn back from it a little."""
    size = SCALE * random.uniform(5, 14, size=2)
    for yarns, radii, (middle, begin) in (
        (cloth.weft, size, spot),
        (cloth.warp, size[::-1], spot[::-1]),
    ):
        away = (yarns.centre - middle) / radii[0]
        along = np.abs(np.arange(yarns.centre.shape[1]) - begin)
        # Each yarn tears where it is weakest.
        torn = radii[1] * random.uniform(0.6, 1.2, size=(len(away), 1))
        torn = torn * np.sqrt((1 - away**2).clip(0))
        yarns.radius *= np.where(torn > 0, np.clip((along - torn) / (2 * SCALE), 0, 1), 1)
        drawn = np.exp(-(away**2) - (along / radii[1]) ** 2)
        yarns.centre += 0.3 * yarns.pitch * np.sign(away) * drawn
    for _ in range(random.randint(4, 10)):
        cloth.strands.append(_frayed_end(spot, size, float(cloth.warp.tone.mean()), random))


def _frayed_end(
    spot: np.ndarray, size: np.ndarray, tone: float, random: np.random.RandomState
) -> Strand:
    """A few fibres that hang from the rim of a hole towards its middle, bent to one side."""
    angle = random.uniform(0, 2 * np.pi)
    rim = size * np.array([np.sin(angle), np.cos(angle)])
    along = np.linspace(0, 1, int(2 * size.max()))
    inwards, sideways = random.uniform(0.3, 0.8), random.normal(scale=0.3)
    points = np.outer(1 - inwards * along, rim) + np.outer(sideways * along**2, rim[::-1] * (1, -1))
    return Strand(spot + points, 0.6 * SCALE, tone)


def _stain(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    """A drop of oil or dirt, soaked in: it darkens the yarns, whose structure remains."""
    radius = SCALE * random.uniform(10, 28)
    rows, columns = (
        np.arange(side) - middle for side, middle in zip(cloth.dye.shape, spot, strict=True)
    )
    stretch = 2 ** random.uniform(-0.5, 0.5)
    distance = np.hypot(rows[:, None] * stretch, columns / stretch) / radius
    angle = np.arctan2(rows[:, None], columns)
    outline = 1.0
    for order in range(2, 7):
        phase = random.uniform(0, 2 * np.pi)
        outline += random.normal(scale=0.25 / order) * np.cos(order * angle + phase)
    soaked = np.clip((1.2 - distance / outline) / 0.4, 0, 1)
    soaked *= soaked * (3 - 2 * soaked)
    cloth.dye *= 1 - random.uniform(0.3, 0.55) * soaked


def _foreign_thread(cloth: Cloth, spot: np.ndarray, random: np.random.RandomState) -> None:
    """A thread from elsewhere, darker or lighter than the cloth's, lies on it."""
    points = curve((0, 0), random, length=SCALE * random.uniform(60, 160), bend=0.7)
    tone = random.choice([random.uniform(0.05, 0.2), random.uniform(0.85, 1.0)])
    cloth.strands.append(Strand(spot + points, SCALE * random.uniform(1.2, 2.2), tone))


DEFECTS: dict[str, Callable[[Cloth, np.ndarray, np.random.RandomState], None]] = {
    "missing_pick": _missing_pick,
    "broken_end": _broken_end,
    "float": _float,
    "slub": _slub,
    "hole": _hole,
    "stain": _stain,
    "foreign_thread": _foreign_thread,
    "loose_weft": _loose_weft,
}
