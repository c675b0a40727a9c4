"""Curves of the probability of detection."""

import numpy as np
import pytest
from scipy.special import expit, logit

from sklearn_ssimae.inspection._pod import fit_curve


def simulated(random, slope, n=120, a50=12.0):
    """Sizes, and whether a detector of a known curve finds them."""
    sizes = np.exp(random.uniform(np.log(3), np.log(110), n))
    return sizes, random.uniform(size=n) < expit(slope * np.log(sizes / a50))


def test_the_bound_holds_as_often_as_it_should():
    """Docs/benchmarks/detectability.py has more slopes and seeds."""
    random = np.random.default_rng(0)
    truth = 12 * np.exp(logit(0.9) / 6)
    curves = [fit_curve(*simulated(random, 6)) for _ in range(60)]
    assert 0.9 <= np.mean([curve.a90_95 >= truth for curve in curves]) <= 1
    assert np.median([curve.a50 for curve in curves]) == pytest.approx(12, rel=0.1)
    assert np.median([curve.a90_95 for curve in curves]) < 1.5 * truth
    assert all(curve.a50 < curve.a90 < curve.a90_95 for curve in curves)


def test_hits_and_misses_that_a_size_separates():
    sizes = np.geomspace(2, 60, 100)
    curve = fit_curve(sizes, sizes > 11)
    assert 10 < curve.a50 < curve.a90 < curve.a90_95 < 16
    np.testing.assert_allclose(curve(np.array([curve.a50, curve.a90])), [0.5, 0.9], atol=1e-3)


def test_unit_of_sizes():
    sizes, hits = simulated(np.random.default_rng(1), 4)
    pixels, mm = fit_curve(sizes, hits), fit_curve(0.05 * sizes, hits)
    np.testing.assert_allclose(mm[2:], 0.05 * np.array(pixels[2:]), rtol=1e-2)


def test_never_found():
    assert np.isnan(fit_curve(np.geomspace(2, 60, 50), np.zeros(50, dtype=bool))).all()
    assert np.isnan(fit_curve(np.zeros(0), np.zeros(0, dtype=bool))).all()


def test_too_seldom_at_any_size():
    sizes = np.geomspace(2, 60, 120)
    curve = fit_curve(sizes, np.arange(120) % 5 < 3)
    assert np.isnan(curve.a90) and np.isnan(curve.a90_95)


def test_all_found():
    """Nothing is said of sizes that were not drawn."""
    sizes = np.geomspace(2, 60, 120)
    curve = fit_curve(sizes, np.ones(120, dtype=bool))
    assert curve.a50 == curve.a90 == pytest.approx(2)
    assert 2 <= curve.a90_95 < 8


def test_large_ones_are_missed():
    """A curve does not fall: it is flat."""
    sizes = np.geomspace(2, 60, 120)
    curve = fit_curve(sizes, sizes < 20)
    assert curve.slope < 0.1 and np.isnan(curve.a90)
