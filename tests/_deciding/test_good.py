"""The residual of good material by the look of its reconstruction."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import QuantileRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sklearn_ssimae._deciding.good import _shares, learn_good_material, learn_look
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.look import LookProfile, look_of


def _cloth_with_selvage(random, shape=(96, 160), selvage=40):
    """A map and the reconstruction it belongs to: pale at the left, where the residual is large."""
    amplitude = np.where(np.arange(shape[1]) < selvage, 0.02, 0.3)
    reconstruction = 0.5 + amplitude * np.sin(np.arange(shape[1]) * 2.0) * np.ones(shape)
    residual = random.random_sample(shape) * np.where(np.arange(shape[1]) < selvage, 8.0, 1.0)
    return torch.from_numpy(residual).float(), torch.from_numpy(reconstruction)[None].float()


def test_look_is_the_weighted_mean_and_deviation():
    random = np.random.RandomState(0)
    image = random.random_sample((40, 50))
    mean, deviation = look_of(torch.from_numpy(image)[None, None], 2.0)[0].numpy()
    offsets = np.arange(-8, 9)
    kernel = np.exp(-(offsets**2) / 8.0)
    weights = np.outer(kernel, kernel) / kernel.sum() ** 2
    around = image[12:29, 17:34]
    expected = (weights * around).sum()
    assert mean[20, 25] == pytest.approx(expected, abs=1e-5)
    variance = (weights * (around - expected) ** 2).sum()
    assert deviation[20, 25] == pytest.approx(np.sqrt(variance), abs=1e-4)


def test_look_foretells_where_good_material_is_drawn_badly():
    random = np.random.RandomState(0)
    profile = learn_look([_cloth_with_selvage(random) for _ in range(4)], sigma=4.0)
    residual, reconstruction = _cloth_with_selvage(random)
    expected = profile.expected(reconstruction[None])[0]
    # The 95 % quantiles of uniform residuals up to 8 and up to 1.
    assert expected[:, :25].mean() == pytest.approx(7.6, rel=0.1)
    assert expected[:, 60:].mean() == pytest.approx(0.95, rel=0.1)
    relative = profile.relative(residual[None], reconstruction[None])[0]
    assert relative[:, :25].max() < 1.5
    assert relative[:, 60:].max() < 1.5


def test_a_rare_look_is_drawn_as_the_root_of_how_common_it_is():
    looks = np.repeat([[0.2, 0.1], [0.8, 0.1], [0.2, 0.3]], [9000, 100, 900], axis=0)
    shares = _shares(looks)
    assert shares.sum() == pytest.approx(1)
    of_each = [part.sum() for part in np.split(shares, [9000, 9100])]
    assert of_each == pytest.approx(np.sqrt([9000, 100, 900]) / np.sqrt([9000, 100, 900]).sum())


def test_a_look_beyond_all_that_was_seen_counts_as_the_nearest():
    maps = [_cloth_with_selvage(np.random.RandomState(0))]
    profile = learn_look(maps, sigma=4.0)
    bright = torch.full((1, 1, 32, 32), 40.0)
    expected = profile.expected(bright)
    assert torch.isfinite(expected).all()
    deviation = look_of(bright, 4.0)[0, 1, 16, 16]  # nearly 0: rounding leaves some
    deviations = np.linspace(profile.low[1], profile.high[1], 33)
    of_brightest = np.exp(np.interp(deviation, deviations, profile.logarithms[-1]))
    assert float(expected[0, 16, 16]) == pytest.approx(of_brightest, rel=1e-4)
    assert float(expected.max()) <= 1.0001 * float(profile.expected(maps[0][1][None]).max())


def test_the_profile_is_a_quantile_regression():
    random = np.random.RandomState(0)
    looks = random.uniform([0.2, 0.0], [0.8, 0.3], size=(6000, 2)).astype(np.float32)
    residuals = np.exp(looks @ [2, -5] + random.gumbel(size=6000)).astype(np.float32)
    profile = LookProfile.fit(looks, residuals, sigma=4.0)
    terms = PolynomialFeatures(2, include_bias=False)
    oracle = make_pipeline(terms, StandardScaler(), QuantileRegressor(quantile=0.95, alpha=0))
    oracle.fit(looks, np.log(residuals))
    means, deviations = np.linspace(looks.min(axis=0), looks.max(axis=0), 33).T
    nodes = np.stack(np.meshgrid(means, deviations, indexing="ij"), axis=-1).reshape(-1, 2)
    expected = oracle.predict(nodes).reshape(33, 33)
    np.testing.assert_allclose(profile.logarithms, expected, atol=0.1)


def test_a_look_that_was_not_seen_is_excused_no_more_than_the_nearest():
    """Cloth of one look, and a selvage that is drawn the worse the brighter and flatter it is.

    What is as flat and not as bright, as a defect may be, was not seen.
    """
    random = np.random.RandomState(0)
    cloth = random.uniform([0.0, 0.95], [0.05, 1.0], size=(1000, 2))
    along, across = random.uniform([0, -0.1], [1, 0.1], size=(2000, 2)).T
    selvage = np.stack([0.3 + 0.7 * along, 0.6 - 0.2 * along + across], axis=1)
    looks = np.concatenate([cloth, selvage]).astype(np.float32)
    logarithms = np.concatenate([np.zeros(1000), 1 + along - 8 * across])
    profile = LookProfile.fit(looks, np.exp(logarithms).astype(np.float32), sigma=4.0)
    means, deviations = np.linspace(looks.min(axis=0), looks.max(axis=0), 33).T
    nodes = np.stack(np.meshgrid(means, deviations, indexing="ij"), axis=-1).reshape(-1, 2)
    distances = cdist(nodes / np.ptp(looks, axis=0), looks / np.ptp(looks, axis=0))
    excused = logarithms[distances.argmin(axis=1)].reshape(33, 33)
    assert (profile.logarithms < excused + 0.3).all()
    dark_and_flat = [[means[4], deviations[4]]]
    terms = PolynomialFeatures(2, include_bias=False)
    quadratic = make_pipeline(terms, QuantileRegressor(quantile=0.95, alpha=0))
    assert quadratic.fit(looks, logarithms).predict(dark_and_flat) > excused[4, 4] + 1


@pytest.mark.parametrize("shape", [(16, 16), (20, 33)])
def test_flat_material_has_one_look(shape):
    maps = [(torch.full(shape, 0.25), torch.full((3, *shape), 0.5))]
    profile = learn_look(maps, sigma=4.0)
    relative = profile.relative(maps[0][0][None], maps[0][1][None])
    np.testing.assert_allclose(relative.numpy(), 1.0, rtol=1e-5)


def test_the_border_is_learnt_of_what_the_look_leaves():
    random = np.random.RandomState(0)
    maps = [_cloth_with_selvage(random) for _ in range(4)]
    by_border, by_both = (
        learn_good_material(maps, patch_size=64, logarithmic=False, by_look=by_look)
        for by_look in (False, True)
    )
    residual, reconstruction = _cloth_with_selvage(random)
    relative = [
        good.relative(residual[None], reconstruction[None])[0] for good in (by_border, by_both)
    ]
    # The selvage lies at one of four borders, and its width is not the border's profile's.
    assert relative[0][:, :40].max() > 2 * relative[0][:, 60:].max()
    assert relative[1][:, :30].max() < 1.6 * relative[1][:, 60:].max()


def test_good_material_is_stored_as_numbers_and_arrays():
    maps = [_cloth_with_selvage(np.random.RandomState(0))]
    good = learn_good_material(maps, patch_size=64, logarithmic=False, by_look=True)
    again = GoodMaterial.from_dict(good.to_dict())
    residual, reconstruction = maps[0]
    np.testing.assert_array_equal(
        good.relative(residual[None], reconstruction[None]).numpy(),
        again.relative(residual[None], reconstruction[None]).numpy(),
    )
