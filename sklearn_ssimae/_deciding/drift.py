"""A test, to be read after every image and for ever, that new values come as good ones did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Probability with which good images are ever said to have moved, however many come.
FALSE_ANNOUNCEMENTS = 0.01

# Values are rounded to such steps, so that counts of them take the place of all values seen.
_STEP, _MOST = 1 / 128, 16.0
# Bets that a rank, in [0, 1], lies within the lowest or the highest such share.
_SHARES = (0.05, 0.2, 0.5)
# Of a stake, what is put on the bet; the rest is kept, so that one odd image does not cost all.
_AT_STAKE = 0.5
# Half of the capital is staked at the first image. The rest is staked bit by bit: half of it until
# as many images have come, for changes that begin late.
_HALF_LIFE = 100
# The capital of a change beyond doubt; more would overflow in the end.
_ENOUGH = 1e100


class Martingales:
    r"""Bets against good images, one capital for each of k values of an image.

    Parameters
    ----------
    good : sequence of k arrays
        Values of good images, any number of each.
    rng : numpy Generator
        Breaks ties.

    Attributes
    ----------
    capital : ndarray of shape (k,)
        1 before the first image. For images that are as likely to come in any order as the good
        ones, its mean stays 1, and it ever reaches c with a probability of at most 1 / c (Ville).

    Notes
    -----
    A conformal test martingale [1]_. Each value has a rank among all before it, good ones and
    new ones, drawn at random within ties. Were it compared with the good ones alone, what chance
    made of these would be bet on for ever, and win. Ranks of exchangeable values are
    independent and uniform in [0, 1]. So a stake is fair that is multiplied by
    1 - a + a / s if the rank lies within the highest (or the lowest) share s, and by 1 - a
    otherwise. Stakes that begin at every image, of capital that was set aside for them, find
    changes that begin late [2]_; nothing is ever begun anew, which would lose the bound. Several
    values are each tested at their part of the probability: their martingales have
    different histories, so their mean need not be one.

    References
    ----------
    .. [1] V. Vovk, I. Petej, I. Nouretdinov, E. Ahlberg, L. Carlsson and A. Gammerman, "Retrain or
       not retrain: conformal test martingales for change-point detection", Proceedings of
       Machine Learning Research 152 (COPA), 2021.
    .. [2] J. Shin, A. Ramdas and A. Rinaldo, "E-detectors: a nonparametric framework for
       sequential change detection", New England Journal of Statistics in Data Science, 2023.
    """

    def __init__(self, good: Sequence[np.ndarray], rng: np.random.Generator) -> None:
        n_values = len(good)
        self._counts = np.zeros((n_values, round(2 * _MOST / _STEP) + 1), dtype=np.int64)
        for counts, values in zip(self._counts, good, strict=True):
            np.add.at(counts, _place(np.asarray(values)), 1)
        self._rng = rng
        self._n_seen = 0
        self._stakes = np.zeros((n_values, 2 * len(_SHARES)))

    @property
    def capital(self) -> np.ndarray:
        return np.asarray(_set_aside(self._n_seen) + self._stakes.mean(1))

    def update(self, values: np.ndarray, *, learns: bool = True) -> None:
        """Take the values (k,) of an image.

        Without `learns`, later images are not compared with this one.
        """
        self._n_seen += 1
        ranks = []
        for counts, place in zip(self._counts, _place(values), strict=True):
            ties = self._rng.random() * (counts[place] + 1)
            ranks.append((counts[:place].sum() + ties) / (counts.sum() + 1))
            counts[place] += learns
        self._stakes += _set_aside(self._n_seen - 1) - _set_aside(self._n_seen)
        self._stakes = np.minimum(self._stakes * _odds(np.array(ranks)), _ENOUGH)

    def exclude(self, images: Sequence[np.ndarray]) -> None:
        """Compare later images with these, whose values (k,) were taken, no more."""
        for values in images:
            self._counts[np.arange(len(values)), _place(values)] -= 1

    def forget(self) -> None:
        """Give up what the bets have won: the capital falls, which keeps the bound."""
        self._stakes[:] = 0


def _place(values: np.ndarray) -> np.ndarray:
    return np.rint((values.clip(-_MOST, _MOST) + _MOST) / _STEP).astype(int)


def _set_aside(n_seen: int) -> float:
    """What was not yet staked after so many images."""
    return 0.5 * _HALF_LIFE / (_HALF_LIFE + n_seen) if n_seen else 1.0


def _odds(ranks: np.ndarray) -> np.ndarray:
    """What each bet makes of a stake (k, n_bets), for ranks (k,)."""
    shares = np.array(_SHARES)
    won = np.hstack([ranks[:, None] < shares, ranks[:, None] > 1 - shares])
    return 1 - _AT_STAKE + won * np.tile(_AT_STAKE / shares, 2)
