"""The test martingales of drift: what a direct computation says, and how rarely they grow."""

import numpy as np
import pytest

from sklearn_ssimae._deciding.drift import Martingales


def capital_by_hand(good, values, ties):
    """The capital after each value: a product of odds for each bet and first image."""
    seen, odds, found = list(good), [], []
    for value, tie in zip(values, ties, strict=True):
        seen.append(value)
        rank = (sum(v < value for v in seen) + tie * seen.count(value)) / len(seen)
        odds.append(
            [
                0.5 + 0.5 / share * (rank < share if low else rank > 1 - share)
                for low in (True, False)
                for share in (0.05, 0.2, 0.5)
            ]
        )
        left = [1.0] + [0.5 * 100 / (100 + n) for n in range(1, len(odds) + 1)]
        won = sum(
            (left[first] - left[first + 1]) * np.prod([o[bet] for o in odds[first:]])
            for first in range(len(odds))
            for bet in range(6)
        )
        found.append(left[-1] + won / 6)
    return found


def test_capital_is_what_a_direct_computation_says():
    # Multiples of a step that both can hold, with ties.
    values = np.random.default_rng(0).integers(-64, 64, 60) / 32
    good, new = values[:20], values[20:]
    test = Martingales([good], np.random.default_rng(1))
    found = []
    for value in new:
        test.update(np.array([value]))
        found.append(test.capital[0])
    expected = capital_by_hand(good, new, np.random.default_rng(1).random(len(new)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def simulate(n_streams, n_images, n_good, shift=0.0):
    """Capital (n_streams, n_images) of one value, with other good images for each stream."""
    random = np.random.default_rng(0)
    capital = np.empty((n_streams, n_images))
    for row in capital:
        values = random.normal(size=n_good + n_images)
        values[n_good:] += shift
        test = Martingales([values[:n_good]], random)
        for index, value in enumerate(values[n_good:]):
            test.update(np.array([value]))
            row[index] = test.capital[0]
    return capital


def test_capital_of_good_images_stays_fair():
    """Also with three good images: each stream's are odd in their way, which must not be bet on."""
    capital = simulate(n_streams=300, n_images=60, n_good=3)
    after_few = capital[:, 4]
    assert abs(after_few.mean() - 1) < 4 * after_few.std() / np.sqrt(len(capital))
    assert (capital.max(1) >= 20).mean() <= 1 / 20
    # By Ville's inequality it does not depend on how long it goes on.
    assert capital.max() < 1000


def test_capital_of_moved_images_grows():
    assert simulate(n_streams=5, n_images=40, n_good=60, shift=2.5).max(1).min() > 1e4


def test_what_was_won_can_be_given_up():
    test = Martingales([np.zeros(50) + np.arange(50) / 100], np.random.default_rng(0))
    for _ in range(10):
        test.update(np.array([3.0]), learns=False)
    assert test.capital[0] > 1e3
    test.forget()
    assert test.capital[0] < 1


@pytest.mark.parametrize("value", [-1e9, 1e9])
def test_any_number_is_taken_for_ever(value):
    test = Martingales([np.arange(30.0) - 15], np.random.default_rng(0))
    for _ in range(300):
        test.update(np.array([value]), learns=False)
    assert np.isfinite(test.capital).all()
