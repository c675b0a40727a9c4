"""What is special to the variational detector."""

import copy
import math
import warnings

import joblib
import numpy as np
import pytest
import shared
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from shared import texture
from skimage import data
from sklearn.exceptions import ConvergenceWarning
from torch.distributions import Normal, kl_divergence

from sklearn_ssimae import VAEDetector
from sklearn_ssimae._training.trainer import Trainer

FLOOR = 1e-4

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def cheap(**params):
    """A detector that fits in a moment, with maps as they are before the opening."""
    plain = {"residual": "plain", "opening_diameter": None, "smoothing": 0}
    return shared.cheap(VAEDetector, **{**plain, **params})


@pytest.fixture(scope="module", params=[(), (3,)], ids=["grey", "colour"])
def fitted(request):
    """A detector whose draws of one patch, and variances of its pixels, differ widely."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = cheap(data_range=(0, 1), learning_rate_init=1e-4, stride=5)
        detector.fit(texture(4, 30, 30, *request.param))
    latent, output = detector.network_.encoder[-1], detector.network_.decoder[-1]
    with torch.no_grad():
        latent.bias[8:] = 0
        output.weight *= 6
        output.weight[:, output.out_channels // 2 :] = 2 * output.weight[
            :, : output.out_channels // 2
        ].flip(0)
    return detector


def image_for(detector, height, width):
    return texture(3, height, width, *detector.image_shape_[2:])[2]


def planes(image):
    """Image (h, w[, c]) to (c, h, w) in the precision that the network sees."""
    return np.atleast_3d(image).transpose(2, 0, 1).astype(np.float32)


def latent(network, patch):
    """Mean and log-variance (d,) of a patch's latent distribution, in float64."""
    with torch.no_grad():
        code = copy.deepcopy(network).double().encoder(torch.from_numpy(patch)[None].double())
    return code.flatten().chunk(2)


def decoded(network, z):
    """Mean and variance (c, p, p) of the pixels for a point z of the latent space."""
    with torch.no_grad():
        output = copy.deepcopy(network).double().decoder(z[None, :, None, None])[0].numpy()
    mean, log_variance = np.split(output, 2)
    return mean, FLOOR + np.exp(log_variance)


def draws(network, patch):
    """Mean and variance of the pixels (N, c, p, p) of each of the stored draws."""
    mu, log_variance = latent(network, patch)
    points = [mu + (log_variance / 2).exp() * noise for noise in network.noise.double()]
    return map(np.stack, zip(*[decoded(network, z) for z in points], strict=True))


def densities(network, patch):
    """Density of each pixel under each draw, (N, p, p); the channels are multiplied."""
    mean, variance = draws(network, patch)
    return norm.pdf(patch.astype(float), mean, np.sqrt(variance)).prod(axis=1)


# The residual


def test_residual_of_one_patch(fitted):
    image = image_for(fitted, 16, 16)
    by_draw = densities(fitted.network_, planes(image))
    assert by_draw.shape == (6, 16, 16)
    # Were it the logarithms that are averaged, the map would be another.
    mean_log = -np.log(by_draw).mean(axis=0)
    expected = -np.log(by_draw.mean(axis=0))
    assert np.abs(mean_log - expected).max() > 0.01
    assert_allclose(fitted.transform(image[None])[0], expected, rtol=0, atol=1e-4)


def test_reconstruction_is_the_mean_of_the_means(fitted):
    image = image_for(fitted, 16, 16)
    mean, _ = draws(fitted.network_, planes(image))
    given = fitted.reconstruct(image[None])[0]
    assert_allclose(planes(given), mean.mean(axis=0), rtol=0, atol=1e-5)


def test_overlapping_patches(fitted):
    """Densities are averaged, over patches and draws; or the maps of the patches."""
    image = image_for(fitted, 21, 27)
    density, residual, count = np.zeros((3, 21, 27))
    weights = np.outer(*(np.hanning(33)[1::2],) * 2)
    for y in (0, 5):
        for x in (0, 5, 10, 11):
            window = (slice(y, y + 16), slice(x, x + 16))
            mean_density = densities(fitted.network_, planes(image[window])).mean(axis=0)
            density[window] += weights * mean_density
            residual[window] -= weights * np.log(mean_density)
            count[window] += weights
    expected = {"reconstruction": -np.log(density / count), "residual": residual / count}
    assert np.abs(expected["residual"] - expected["reconstruction"]).max() > 0.01
    for aggregate, maps in expected.items():
        detector = copy.deepcopy(fitted).set_params(aggregate=aggregate)
        assert_allclose(detector.transform(image[None])[0], maps, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:image 0:UserWarning")
@pytest.mark.parametrize("aggregate", ["reconstruction", "residual"])
@pytest.mark.parametrize("outlier", [1e3, -1e5, 1e6])
def test_extreme_outliers(fitted, aggregate, outlier):
    image = image_for(fitted, 21, 27)
    image[9, 12] = outlier
    residual = copy.deepcopy(fitted).set_params(aggregate=aggregate).transform(image[None])[0]
    assert np.isfinite(residual).all()
    assert np.exp(-residual[9, 12]) == 0


@pytest.mark.parametrize("aggregate", ["reconstruction", "residual"])
def test_densities_that_underflow(aggregate):
    """With the variance at its floor, black on grey has a density of exp(-1247)."""
    detector = cheap(n_patches=8, max_iter=1).fit(texture(2, 20, 20))
    output = detector.network_.decoder[-1]
    with torch.no_grad():
        output.weight.zero_()
        output.bias.copy_(torch.tensor([0.5, -50]))
    image = np.linspace(0, 1, 21 * 27).reshape(1, 21, 27)
    expected = -norm.logpdf(image, 0.5, math.sqrt(FLOOR))
    given = detector.set_params(aggregate=aggregate).transform(image)
    assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_flat_images_after_many_steps(value):
    X = np.full((2, 20, 40), value)
    detector = cheap(
        n_patches=64,
        max_iter=16,
        n_iter_no_change=16,
        learning_rate="constant",
        learning_rate_init=3e-3,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = detector.fit(X).transform(X)
    least = 0.5 * math.log(2 * math.pi * FLOOR)
    assert np.isfinite(detector.loss_curve_).all() and np.isfinite(maps).all()
    # The variance starts at twice the floor, and cannot fall below it.
    assert least < maps.min() < least + 0.5 * math.log(2.5)
    assert least < min(detector.loss_curve_) < least + 0.5 * math.log(2.5)


# The loss

# With their warmths; the evidence lower bound first.
KL_WEIGHTS = [(1, 1.0), (0, 1.0), (2.5, 1.0), (1, 0.0), (1, 0.25)]


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("patch_size", [16, 32])
def test_loss_is_the_negative_elbo(patch_size, channels):
    """kl_weight means the same for every size of a patch: it is a weight per image."""
    X = texture(3, patch_size, patch_size, *channels)
    detector = cheap(patch_size=patch_size, n_patches=32, learning_rate_init=5e-3).fit(X)
    network, patches = detector.network_, torch.from_numpy(np.stack([planes(x) for x in X]))
    seen = []

    def forward(noise):
        seen.append(noise)
        return network(patches, noise)

    def loss(kl_weight, warmth):
        detector.set_params(kl_weight=kl_weight)
        generator = torch.Generator().manual_seed(3)
        function = detector._make_loss(patches.shape[1], torch.device("cpu"), generator)
        return function(forward, patches, warmth).item()

    given = {(weight, warmth): loss(weight, warmth) for weight, warmth in KL_WEIGHTS}
    log_likelihood, divergence = 0.0, 0.0
    for patch, noise in zip(patches.numpy(), seen[0][0], strict=True):
        mu, log_variance = latent(network, patch)
        sigma = (log_variance / 2).exp()
        mean, variance = decoded(network, mu + sigma * noise)
        log_likelihood += norm.logpdf(patch.astype(float), mean, np.sqrt(variance)).sum() / 3
        divergence += kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0)).sum().item() / 3
    for (weight, warmth), value in given.items():
        expected = (weight * warmth * divergence - log_likelihood) / patches[0].numel()
        assert value == pytest.approx(expected, abs=1e-5)
    assert divergence > 1
    # One draw for each patch.
    assert seen[0].shape == (1, 3, 8)
    assert not torch.equal(seen[0][0, 0], seen[0][0, 1])


class Recorder(VAEDetector):
    """Notes the warmth of each step."""

    def _make_loss(self, *args):
        loss = super()._make_loss(*args)
        self.warmths = []

        def recorded(forward, patches, warmth):
            self.warmths.append(warmth)
            return loss(forward, patches, warmth)

        return recorded


@pytest.fixture(scope="module")
def learnt():
    detector = Recorder(
        patch_size=16, latent_dim=16, n_patches=400, max_iter=10, scale=0.5, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return detector.fit(data.brick()[None, :256, :256])


def test_learns_with_the_full_divergence(learnt):
    rest = data.brick()[None, 256:, :256] / 255
    assert ((learnt.reconstruct(255 * rest) / 255 - rest) ** 2).mean() < 0.8 * rest.var()
    assert learnt.loss_curve_[-1] < learnt.loss_curve_[0] - 0.1
    assert learnt.kl_weight == 1
    # The divergence was left out at first and was whole at the end.
    assert learnt.warmths[0] == 0 and learnt.warmths[-1] == 1
    assert learnt.warmths == sorted(learnt.warmths)


def test_the_posterior_has_not_collapsed(learnt):
    image = data.brick()[256:512:2, :256:2].astype(np.float32) / 255
    crops = torch.from_numpy(image).unfold(0, 16, 16).unfold(1, 16, 16).reshape(-1, 1, 16, 16)
    with torch.no_grad():
        _, _, divergence = learnt.network_(crops, learnt.network_.noise[:, None])
        mu, _ = learnt.network_.encoder(crops).flatten(1).chunk(2, dim=1)
    assert divergence.min() > 1
    assert mu.var(dim=0).max() > 0.5


def test_the_residual_finds_a_defect(learnt):
    image = data.brick()[None, 256:, :256].copy()
    mask = np.zeros(image.shape, bool)
    mask[0, 100:130, 60:90] = True
    image[mask] = 255 - image[mask]
    assert learnt.score(image, mask) > 0.8


# The draws


@pytest.mark.parametrize("n_latent_samples", [1, 4])
def test_draws_are_made_in_fit_and_stored(n_latent_samples, tmp_path):
    X = texture(3, 20, 20)
    detector = cheap(n_latent_samples=n_latent_samples).fit(X)
    noise = detector.network_.noise.clone()
    assert noise.shape == (n_latent_samples, 8)
    assert 0.4 < noise.std() < 1.6
    maps = detector.transform(X)
    assert_array_equal(detector.transform(X), maps)
    assert_array_equal(detector.transform(X[1:2]), maps[1:2])
    assert torch.equal(detector.network_.noise, noise)
    joblib.dump(detector, tmp_path / "vae.joblib")
    loaded = joblib.load(tmp_path / "vae.joblib")
    assert torch.equal(loaded.network_.noise, noise)
    assert_array_equal(loaded.transform(X), maps)


def test_draws_come_from_random_state():
    X = texture(2, 16, 16)
    first, same, other = (cheap(random_state=seed).fit(X).network_.noise for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert (first != other).all()


def test_training_leaves_the_draws_alone():
    X = texture(2, 16, 16)
    short, long = (cheap(max_iter=max_iter).fit(X).network_.noise for max_iter in (1, 3))
    assert torch.equal(short, long)


@pytest.mark.parametrize("params", [{"n_latent_samples": 2}, {"latent_dim": 3}])
def test_parameters_changed_after_fit(params):
    """The network keeps what it was made with, until a fit makes another one."""
    X = texture(2, 20, 20)
    detector = cheap(warm_start=True).fit(X)
    maps = detector.transform(X)
    detector.set_params(**params)
    assert_array_equal(detector.transform(X), maps)
    for refit in (detector.fit, detector.partial_fit):
        name, value = next(iter(params.items()))
        with pytest.raises(ValueError, match=f"cannot continue with {name}={value}"):
            refit(X)
        assert_array_equal(detector.transform(X), maps)
    detector.set_params(warm_start=False).fit(X)
    shape = (detector.n_latent_samples, detector.latent_dim)
    assert detector.network_.noise.shape == shape


# Half precision


def test_bfloat16():
    X = texture(3, 21, 27)
    detector = cheap(precision="bfloat16", n_patches=64).fit(X)
    assert np.isfinite(detector.loss_curve_).all()
    assert {p.dtype for p in detector.network_.state_dict().values()} == {torch.float32}
    for aggregate in ("reconstruction", "residual"):
        maps = detector.set_params(aggregate=aggregate, precision="bfloat16").transform(X)
        exact = detector.set_params(precision="float32").transform(X)
        assert 0 < np.abs(maps - exact).max() < 0.02 * np.ptp(exact)


# Bad input


@pytest.mark.parametrize(
    "name, values",
    [("kl_weight", [-1e-9, np.nan, np.inf, "1"]), ("n_latent_samples", [0, -6, 2.5, None])],
)
def test_bad_parameters_fail_before_training(monkeypatch, name, values):
    monkeypatch.setattr(Trainer, "run_epoch", lambda *args: pytest.fail("it trains"))
    for value in values:
        detector = cheap(**{name: value})
        with pytest.raises(ValueError, match=f"The '{name}' parameter .* Got {value!r} instead"):
            detector.fit(texture(1, 16, 16))
        assert not hasattr(detector, "network_")
