"""The values of the structural similarity, by oracles and by hand."""

import kornia
import numpy as np
import pytest
import torch
from image_pairs import EXPONENTS, WINDOWS, components_product, random_pair, texture_pair
from numpy.testing import assert_allclose, assert_array_equal
from skimage.metrics import structural_similarity

from sklearn_ssimae import ssim_components, ssim_map
from sklearn_ssimae._maps.ssim import DEFAULT_C1, DEFAULT_C2, _signed_power

# Smaller than a block of columns, whole blocks, and no multiples of one.
SIZES = [(19, 23), (64, 64), (65, 127), (130, 200), (300, 37)]


def skimage_ssim(x, y, *, window="uniform", window_size=11, sigma=1.5, c1=1e-4, c2=9e-4):
    """scikit-image's map, in float64."""
    return structural_similarity(
        x.astype(np.float64),
        y.astype(np.float64),
        win_size=window_size,
        gaussian_weights=window == "gaussian",
        sigma=sigma,
        K1=c1**0.5,
        K2=c2**0.5,
        use_sample_covariance=False,
        data_range=1,
        full=True,
    )[1]


def explicit_components(x, y, *, window="uniform", window_size=11, sigma=1.5, c1=1e-4, c2=9e-4):
    """Eqs. (5) to (7), window by window, with two-pass moments."""
    radius = window_size // 2
    offsets = np.arange(-radius, radius + 1)
    line = np.ones(window_size) if window == "uniform" else np.exp(-(offsets**2) / (2 * sigma**2))
    weights = np.outer(line, line) / line.sum() ** 2
    p, q = (
        np.lib.stride_tricks.sliding_window_view(
            np.pad(image, radius, mode="symmetric"), (window_size, window_size)
        )
        for image in (x, y)
    )

    def mean(values):
        return (values * weights).sum(axis=(-2, -1))

    mp, mq = mean(p), mean(q)
    dp, dq = p - mp[..., None, None], q - mq[..., None, None]
    sp, sq, spq = np.sqrt(mean(dp * dp)), np.sqrt(mean(dq * dq)), mean(dp * dq)
    luminance = (2 * mp * mq + c1) / (mp**2 + mq**2 + c1)
    contrast = (2 * sp * sq + c2) / (sp**2 + sq**2 + c2)
    structure = (2 * spq + c2) / (2 * sp * sq + c2)
    return luminance, contrast, structure


# Oracles ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("window_size", [3, 7, 11, 19])
def test_uniform_window_equals_scikit_image(shape, window_size):
    x, y = random_pair(shape)
    expected = skimage_ssim(x, y, window_size=window_size)
    assert_allclose(ssim_map(x, y, window_size=window_size), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.5])
def test_gaussian_window_equals_scikit_image(shape, sigma):
    x, y = random_pair(shape)
    options = dict(window="gaussian", window_size=2 * int(3.5 * sigma + 0.5) + 1, sigma=sigma)
    expected = skimage_ssim(x, y, **options)
    assert_allclose(ssim_map(x, y, **options), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("images", [random_pair((130, 200), np.float32), texture_pair(np.float32)])
def test_float32_equals_scikit_image(window, images):
    expected = skimage_ssim(*images, window=window)
    result = ssim_map(*images, window=window)
    assert result.dtype == np.float32
    assert_allclose(result, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("noise", [0.02, 0.002])
def test_float32_does_not_drift_on_a_large_bright_image(window, noise):
    rng = np.random.default_rng(0)
    clean = 0.9 + noise * rng.standard_normal((1500, 1500))
    x = clean.astype(np.float32)
    y = (clean + noise * rng.standard_normal(clean.shape)).astype(np.float32)
    expected = skimage_ssim(x, y, window=window)
    assert_allclose(ssim_map(x, y, window=window), expected, rtol=0, atol=3e-6)


def test_float32_holds_for_dark_and_bright_images_in_one_batch():
    x, y = random_pair((3, 60, 70), np.float32)
    level = np.array([0.0, 0.5, 0.95], np.float32)[:, None, None]
    x, y = 0.05 * x + level, 0.05 * y + level
    expected = [skimage_ssim(*images) for images in zip(x, y, strict=True)]
    assert_allclose(ssim_map(x, y), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("window_size", [7, 11])
def test_gaussian_window_equals_kornia_away_from_the_border(window_size):
    x, y = random_pair((2, 3, 40, 50))
    expected = kornia.metrics.ssim(torch.from_numpy(x), torch.from_numpy(y), window_size, eps=0)
    result = ssim_map(x, y, window="gaussian", window_size=window_size)
    # kornia mirrors without the edge pixel.
    inner = (..., *2 * (slice(window_size // 2, -(window_size // 2)),))
    assert_allclose(result[inner], expected.numpy()[inner], rtol=0, atol=1e-10)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("shape", "window_size"),
    [
        ((1, 1), 11),
        ((1, 2), 11),
        ((3, 7), 11),
        ((2, 3), 21),
        ((10, 200), 31),
        ((9, 4), 1),
        ((66, 3), 65),
    ],
)
@pytest.mark.parametrize("constants", [{}, dict(c1=0.01, c2=0.03)])
def test_windows_beyond_the_image_mirror_it(window, shape, window_size, constants):
    x, y = random_pair(shape)
    options = dict(window=window, window_size=window_size, sigma=3.0, **constants)
    luminance, contrast, structure = explicit_components(x, y, **options)
    expected = luminance * contrast * structure
    assert_allclose(ssim_map(x, y, **options), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("window_size", [1, 5, 11])
def test_components_equal_their_definition(window, window_size):
    x, y = random_pair((30, 41))
    options = dict(window=window, window_size=window_size)
    expected = explicit_components(x, y, **options)
    # The constant under the square roots is seen where a variance is near 0.
    for part, oracle in zip(ssim_components(x, y, **options), expected, strict=True):
        assert_allclose(part, oracle, rtol=0, atol=3e-5)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("alpha", "beta", "gamma"), [(2, 0.7, 1), (0, 0, 1), (1, 1, 2), (0.5, 3, 0), (1, 0, 3)]
)
def test_exponents_apply_to_the_components(window, alpha, beta, gamma):
    x, y = random_pair((30, 41))
    luminance, contrast, structure = explicit_components(x, y, window=window)
    expected = luminance**alpha * contrast**beta * structure**gamma
    exponents = dict(alpha=alpha, beta=beta, gamma=gamma)
    assert_allclose(ssim_map(x, y, window=window, **exponents), expected, rtol=0, atol=3e-5)
    product = components_product(x, y, window=window, **exponents)
    assert_allclose(ssim_map(x, y, window=window, **exponents), product, rtol=1e-12)


def test_default_constants():
    x, y = random_pair((40, 40))
    assert (DEFAULT_C1, DEFAULT_C2) == (0.01**2, 0.03**2)
    assert_array_equal(ssim_map(x, y), ssim_map(x, y, c1=0.01**2, c2=0.03**2))


@pytest.mark.parametrize("window", WINDOWS)
def test_constants_of_the_paper_are_taken_literally(window):
    x, y = texture_pair(np.float64)
    literal = dict(window=window, c1=0.01, c2=0.03)
    assert_allclose(ssim_map(x, y, **literal), skimage_ssim(x, y, **literal), rtol=0, atol=1e-10)
    assert ssim_map(x, y, **literal).mean() > ssim_map(x, y, window=window).mean() + 0.05


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_another_data_range_is_a_matter_of_the_constants(exponents):
    x, y = random_pair((40, 50))
    scaled = ssim_map(255 * x, 255 * y, c1=DEFAULT_C1 * 255**2, c2=DEFAULT_C2 * 255**2, **exponents)
    atol = 1e-4 if exponents else 1e-10
    assert_allclose(scaled, ssim_map(x, y, **exponents), rtol=0, atol=atol)


def test_sigma_has_no_effect_on_the_uniform_window():
    x, y = random_pair((20, 20))
    assert_array_equal(ssim_map(x, y, sigma=1.5), ssim_map(x, y, sigma=5.0))
    assert not np.allclose(
        ssim_map(x, y, window="gaussian", sigma=1.5), ssim_map(x, y, window="gaussian", sigma=5.0)
    )


# Range --------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (40, 53), (3, 128, 128)])
def test_identical_images_are_exactly_1(window, dtype, shape):
    x = random_pair(shape, dtype)[0]
    x[..., : shape[-2] // 2, : shape[-1] // 2] = 0.83
    assert (ssim_map(x, x.copy(), window=window) == 1).all()
    for exponents in EXPONENTS[1:]:
        result = ssim_map(x, x.copy(), window=window, **exponents)
        assert_allclose(result, 1, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponents", EXPONENTS)
def test_values_lie_between_minus_1_and_1(window, dtype, exponents):
    x, y = random_pair((60, 70), dtype)
    flat = np.full_like(x, 0.83)
    nearly = (x + 1e-4 * y).astype(dtype)
    images = [x, y, 1 - x, nearly, flat, np.zeros_like(x), np.ones_like(x)]
    slack = 4 * np.finfo(dtype).eps if exponents else 0
    for constants in ({}, dict(c1=1e-9, c2=1e-9)):
        for a in images:
            for b in images:
                result = ssim_map(a, b, window=window, **constants, **exponents)
                assert result.min() >= -1 - slack
                assert result.max() <= 1 + slack


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponents", EXPONENTS)
def test_flat_images_by_hand(dtype, exponents):
    alpha, beta = exponents.get("alpha", 1), exponents.get("beta", 1)
    light, dark = (np.full((30, 40), value, dtype) for value in (0.75, 0.25))
    luminance = (2 * 0.75 * 0.25 + 1e-4) / (0.75**2 + 0.25**2 + 1e-4)
    result = ssim_map(light, dark, **exponents)
    assert_allclose(result, luminance**alpha, rtol=1e-6)
    assert_allclose(ssim_map(light, light, **exponents), 1, rtol=0, atol=1e-12)
    assert (ssim_map(light * 0, light * 0, **exponents) == 1).all()

    # Stripes of period 3 have the same mean and variance in every window of 9 pixels.
    stripes = np.tile(np.array([0.5, 0.75, 1.0], dtype), (30, 10))
    light = light[:, :30]
    variance = 0.25**2 * 2 / 3
    # Structure is c2 / c2.
    contrast = 9e-4 / (variance + 9e-4)
    result = ssim_map(stripes, light, window_size=9, **exponents)[:, 4:-4]
    # The constant under the square roots.
    assert_allclose(result, contrast**beta, rtol=0.05 if exponents else 1e-5)


# Powers of negative structure ---------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.1, 0.5, 0.99, 1.01, 1.5, 2.5, 7.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signed_power(exponent, dtype):
    base = (torch.arange(-1000, 1001, dtype=dtype) / 1000).requires_grad_()
    power = _signed_power(base, exponent)
    assert power[0] == -1 and power[1000] == 0 and power[-1] == 1
    assert (power.diff() >= 0).all() and (power.abs() <= 1).all()
    assert_allclose(power.detach(), -power.detach().flip(0), rtol=1e-6)
    expected = base.abs() ** exponent
    far = base.abs() > 0.1
    assert_allclose(power[far].abs().detach(), expected[far].detach(), rtol=1e-3)
    (slope,) = torch.autograd.grad(power.sum(), base)
    assert torch.isfinite(slope).all() and (slope >= 0).all()
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: _signed_power(s, exponent), zero, eps=1e-5)


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.5, 3.7])
def test_negative_structure_keeps_its_sign_and_order(gamma):
    x, y = random_pair((60, 60), noise=1.0)
    plain = ssim_components(x, 1 - y)[2].ravel()
    power = ssim_components(x, 1 - y, gamma=gamma)[2].ravel()
    assert plain.min() < -0.5 and plain.max() > 0
    assert_array_equal(np.sign(power), np.sign(plain))
    order = np.argsort(plain)
    assert (np.diff(power[order]) >= 0).all()


@pytest.mark.parametrize(("gamma", "sign"), [(1, -1), (2, 1), (3, -1)])
def test_whole_exponents_are_plain_powers(gamma, sign):
    x, _ = random_pair((60, 60))
    structure = ssim_components(x, 1 - x)[2]
    assert (structure < 0).all()
    assert_allclose(ssim_components(x, 1 - x, gamma=gamma)[2], sign * abs(structure) ** gamma)


# What the components react to: figure 2 of the paper ----------------------------------


@pytest.mark.parametrize(
    ("change", "reacting"),
    [
        (lambda x: x + 0.3, 0),
        (lambda x: 0.3 + 0.25 * (x - 0.3), 1),
        (lambda x: 0.6 - x, 2),
    ],
    ids=["mean", "variance", "covariance"],
)
def test_each_component_reacts_to_its_own_change(change, reacting):
    # Period 3: every window of 9 pixels has the mean 0.3 and the same variance.
    x = np.tile([0.1, 0.3, 0.5], (36, 12))
    parts = ssim_components(x, change(x), window_size=9)
    for index, part in enumerate(parts):
        # Mirrored borders break the period.
        inner = part[4:-4, 4:-4]
        if index == reacting:
            assert (inner < 0.9).all()
        else:
            assert_allclose(inner, 1, rtol=0, atol=1e-7)
    assert (parts[2][4:-4, 4:-4] < 0).all() == (reacting == 2)


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (40, 53), (3, 128, 128)])
def test_identical_images_are_exactly_1_in_every_part(window, dtype, shape):
    x = np.random.default_rng(0).random(shape).astype(dtype)
    x[..., : shape[-2] // 2, : shape[-1] // 2] = 0.83
    for part in ssim_components(x, x.copy(), window=window):
        assert (part == 1).all()
    assert (ssim_map(x, x.copy(), window=window, gamma=0.5) == 1).all()


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_are_at_most_1(window, dtype):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.random((2, 60, 70)).astype(dtype)
        y = (x + 1e-4 * rng.random(x.shape)).astype(dtype)
        for part in ssim_components(x, y, window=window):
            assert part.max() <= 1 and part.min() >= -1
