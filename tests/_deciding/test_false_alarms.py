from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats

from sklearn_ssimae._deciding.false_alarms import (
    GoodLevels,
    GoodMaxima,
    false_alarm_threshold,
    prediction_factor,
)

N_POOL = 2000
SIDE = 32


@cache
def _pool(kind: str, effect: float, width: int = SIDE) -> list[GoodMaxima]:
    """Good images' smooth maps of one kind of tail, and of levels that differ by `effect`.

    Strips of them, if they are narrower than they are high.
    """
    random = np.random.default_rng(0)
    frequencies = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    blur = np.exp(-2 * (2 * np.pi) ** 2 * (frequencies[0] ** 2 + frequencies[1] ** 2))
    # Every map is made of two fields: independent, normal and smooth.
    noise = np.fft.rfft2(random.standard_normal((2 * N_POOL, SIDE, SIDE), dtype=np.float32))
    fields = np.fft.irfft2(noise * blur, s=(SIDE, SIDE))
    first, second = np.split(fields / fields.std(), 2)
    maps = {
        "normal": lambda: 1 + 0.3 * first,
        "lognormal": lambda: np.exp(0.4 * first),
        "squares": lambda: first**2 + second**2,
        "heavy": lambda: 1 + 0.3 * first * np.exp(0.5 * second),
    }[kind]()
    maps *= np.exp(effect * random.standard_normal((N_POOL, 1, 1)))
    return [GoodMaxima.of(residual[:, :width]) for residual in maps]


def _mean_rate(
    pool: list[GoodMaxima],
    n_kept: int,
    aim: float = 0.01,
    *,
    strips: list[GoodMaxima] | None = None,
) -> float:
    """Share of the good images above a threshold from n_kept others, or strips, on average."""
    seen, n_pixels = (pool, None) if strips is None else (strips, SIDE**2)
    n_repeats = 300
    random = np.random.default_rng(1)
    largest = np.sort([image.largest for image in pool])
    rates = []
    for _ in range(n_repeats):
        kept = [seen[index] for index in random.choice(N_POOL, n_kept, replace=False)]
        value = false_alarm_threshold(kept, rate=aim, n_pixels=n_pixels).value
        rates.append(1 - np.searchsorted(largest, value, side="right") / N_POOL)
    return float(np.mean(rates))


# Kept images: a region of each of 5, every tenth of the others. The fewer they are, the less is
# known of how images differ; the bounds, here and in the docs, are those of images
# whose levels differ by 15 %.
@pytest.mark.parametrize(
    ("n_images", "n_kept", "bound"),
    [(5, 5, 0.025), (20, 2, 0.05), (100, 10, 0.02), (1000, 100, 0.01)],
)
@pytest.mark.parametrize("kind", ["normal", "lognormal", "squares", "heavy"])
@pytest.mark.parametrize("effect", [0, 0.15])
def test_the_false_alarm_rate_stays_within_its_bounds(n_images, n_kept, bound, kind, effect):
    rate = _mean_rate(_pool(kind, effect), n_kept)
    assert rate <= bound


@pytest.mark.parametrize(
    ("kind", "bound"),
    [("normal", 0.01), ("lognormal", 0.03), ("squares", 0.025), ("heavy", 0.04)],
)
@pytest.mark.parametrize("effect", [0, 0.15])
def test_strips_of_five_images_speak_for_the_whole(kind, effect, bound):
    strips = _pool(kind, effect, SIDE // 4)
    assert _mean_rate(_pool(kind, effect), 5, strips=strips) <= bound


@pytest.mark.parametrize("kind", ["normal", "lognormal", "squares", "heavy"])
@pytest.mark.parametrize("n_kept", [10, 100])
def test_one_in_a_thousand_is_extrapolated_within_its_bound(n_kept, kind):
    rate = _mean_rate(_pool(kind, 0.15), n_kept, aim=0.001)
    assert rate <= 0.003


@pytest.mark.parametrize("kind", ["normal", "lognormal", "squares", "heavy"])
def test_few_images_do_not_make_the_threshold_useless(kind):
    """From 5 images the threshold is at most a third above the one that 1 % exceed."""
    pool = _pool(kind, 0.15)
    exact = np.quantile([image.largest for image in pool], 0.99)
    random = np.random.default_rng(2)
    values = [
        false_alarm_threshold([pool[i] for i in random.choice(N_POOL, 5)]).value for _ in range(100)
    ]
    assert 0.9 * exact < np.median(values) < 1.33 * exact


@pytest.mark.parametrize(("n", "rate", "rank"), [(99, 0.01, 99), (199, 0.01, 198), (19, 0.1, 18)])
def test_many_images_by_rank(n, rate, rank):
    images = [GoodMaxima(float(i), 1.0, 100) for i in np.random.default_rng(0).permutation(n)]
    threshold = false_alarm_threshold(images, rate=rate)
    assert threshold.by_rank
    assert threshold.value == rank - 1


def test_one_image_fewer_is_extrapolated():
    images = [GoodMaxima(float(i), 1.0, 100) for i in range(98)]
    threshold = false_alarm_threshold(images)
    assert not threshold.by_rank
    assert threshold.value > 97


@pytest.mark.parametrize("n", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
def test_the_prediction_factor_holds_for_gumbel_maxima(n, rate):
    """Images whose blocks tell the truth: of a further one, `rate` lies above."""
    random = np.random.default_rng(3)
    samples = random.gumbel(size=(5000, n))
    pairs = np.triu_indices(n, 1)
    between = 0.0
    if n > 1:
        differences = np.abs(samples[:, pairs[0]] - samples[:, pairs[1]])
        between = differences.mean(axis=1) / 2 / np.log(2)
    scale = (2 + (n - 1) * between) / (n + 1)
    above = stats.gumbel_r.sf(samples.mean(axis=1) + prediction_factor(n, rate) * scale)
    assert above.mean() == pytest.approx(rate, rel=0.12)


def test_the_factor_of_many_images_is_the_quantile_itself():
    quantile = stats.gumbel_r.isf(0.001) - np.euler_gamma
    assert prediction_factor(900, 0.001) == pytest.approx(quantile, rel=0.01)


def test_regions_are_extrapolated_to_the_area_of_an_image():
    images = [GoodMaxima(1 + 0.1 * i, 0.04, 1000) for i in range(5)]
    same = false_alarm_threshold(images, n_pixels=1000)
    assert same.value == false_alarm_threshold(images).value
    larger = false_alarm_threshold(images, n_pixels=8000)
    scale_of_blocks = 0.2 * np.sqrt(6) / np.pi
    assert larger.value == pytest.approx(same.value + scale_of_blocks * np.log(8))


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_strips_grow_as_their_images_do(scale):
    """How much images differ has no part in it. Values of exponential tails are an oracle."""
    random = np.random.default_rng(8)
    values = scale * random.exponential(size=(400, 64, 64)) + random.normal(5, 3, (400, 1, 1))
    strips = [GoodMaxima.of(image[:, :16]) for image in values]
    grown = false_alarm_threshold(strips, rate=0.001, n_pixels=64 * 64).value
    grown -= false_alarm_threshold(strips, rate=0.001, n_pixels=64 * 16).value
    whole = values.max(axis=(1, 2)).mean() - values[:, :, :16].max(axis=(1, 2)).mean()
    assert grown == pytest.approx(whole, rel=0.1)


def test_many_regions_are_extrapolated_too():
    images = [GoodMaxima(float(i), 1.0, 100) for i in range(200)]
    assert not false_alarm_threshold(images, n_pixels=1000).by_rank


@pytest.mark.parametrize("shift", [-5.0, 0.0, 3.0])
@pytest.mark.parametrize("factor", [0.1, 1.0, 20.0])
def test_the_threshold_follows_the_unit_of_the_maps(shift, factor):
    """Logarithms, which may be negative, are as good as ratios."""
    maps = np.random.default_rng(4).gumbel(size=(6, 32, 32))
    plain = false_alarm_threshold(map(GoodMaxima.of, maps)).value
    moved = false_alarm_threshold(map(GoodMaxima.of, factor * maps + shift)).value
    assert moved == pytest.approx(factor * plain + shift)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (5, 6), (64, 700)])
def test_maxima_of_maps_of_any_size(shape):
    residual = np.random.default_rng(5).random(shape)
    maxima = GoodMaxima.of(residual)
    assert maxima.largest == residual.max()
    assert maxima.n_pixels == residual.size
    threshold = false_alarm_threshold([maxima])
    assert np.isfinite(threshold.value)
    assert threshold.value >= residual.max()


def test_the_variance_is_that_of_sixteen_blocks():
    residual = np.random.default_rng(6).random((16, 24))
    blocks = residual.reshape(4, 4, 4, 6).max(axis=(1, 3))
    assert GoodMaxima.of(residual).block_variance == pytest.approx(blocks.var(ddof=1))


def test_one_odd_image_does_not_set_the_scale():
    largest = np.random.default_rng(7).gumbel(size=24)
    images = [GoodMaxima(float(value), 0.5, 100) for value in largest]
    without = false_alarm_threshold(images).value
    images[3] = GoodMaxima(float(largest.max()) + 10, 0.5, 100)
    with_it = false_alarm_threshold(images).value
    assert without < with_it < largest.max() + 10


def test_equal_flat_maps_give_their_value():
    threshold = false_alarm_threshold([GoodMaxima.of(np.full((8, 8), 2.0))] * 3)
    assert threshold.value == pytest.approx(2)


def test_the_text_says_what_the_threshold_rests_on():
    few = str(false_alarm_threshold([GoodMaxima(1.0, 0.1, 100)]))
    many = str(false_alarm_threshold([GoodMaxima(1.0, 0.1, 100)] * 99))
    assert "extrapolated" in few and "1 good image" in few and "0.01" in few
    assert "by rank" in many and "99 good images" in many
    assert many.endswith("of 99 good images")


@pytest.mark.parametrize(
    ("n", "rate", "end"),
    [
        (1, 0.01, "1 good image. It rests on 1 image alone, and the true share may be many"),
        (2, 0.01, "2 good images. It rests on 2 images alone, and the true share may be many"),
        (2, 0.4, "2 good images. It rests on 2 images alone, and the true share may be many"),
        (3, 0.01, "3 good images; fewer than 99 images: up to 0.05 in simulations"),
        (20, 0.001, "20 good images; fewer than 999 images: up to 0.003 in simulations"),
        (9, 0.05, "9 good images; fewer than 19 images: up to 0.1 in simulations"),
    ],
)
def test_the_text_says_what_few_images_mean(n, rate, end):
    images = [GoodMaxima(float(i), 0.1, 100) for i in range(n)]
    assert end in str(false_alarm_threshold(images, rate=rate))


def test_regions_enough_for_the_rank_are_not_called_few():
    text = str(false_alarm_threshold([GoodMaxima(1.0, 0.1, 100)] * 99, n_pixels=1000))
    assert "extrapolated" in text and "fewer" not in text


@pytest.mark.parametrize("kind", ["normal", "lognormal", "squares", "heavy"])
@pytest.mark.parametrize(("n", "rate"), [(3, 0.05), (3, 0.01), (3, 0.001), (10, 0.01), (30, 0.003)])
def test_the_bound_in_the_text_holds_in_simulations(kind, n, rate):
    text = str(false_alarm_threshold([GoodMaxima(1.0, 0.1, 100)] * n, rate=rate))
    bound = float(text.partition("up to ")[2].split()[0])
    assert _mean_rate(_pool(kind, 0.15), n, aim=rate) <= bound


def _levels(n_images: int, seed: int = 0, block_variance: float = 0.01) -> GoodLevels:
    largest = np.random.default_rng(seed).gumbel(1, 0.1, n_images)
    return GoodLevels.of([GoodMaxima(value, block_variance, 1000) for value in largest])


@pytest.mark.parametrize("n_images", [1, 3, 20, 98, 99, 100, 199, 250])
def test_p_values_and_thresholds_agree(n_images: int) -> None:
    """On both sides of the number of images from which thresholds go by rank."""
    levels = _levels(n_images)
    for rate in (0.01, 0.02, 0.05, 0.1, 0.3):
        threshold = levels.threshold(rate)
        assert threshold.by_rank == (n_images + 1 >= 1 / rate - 1e-9) == levels.is_ranked(rate)
        values = np.concatenate([np.linspace(0, 3, 200), levels.largest, levels.largest + 1e-12])
        if threshold.by_rank:
            values = np.append(values, np.nextafter(threshold.value, [-np.inf, np.inf]))
        else:
            values = np.append(values, threshold.value + np.array([-1e-9, 1e-9]))
        found = levels.p_values(values, rate) < rate
        np.testing.assert_array_equal(found, values > threshold.value)


def test_p_values_by_rank() -> None:
    levels = _levels(99)
    p = levels.p_values(np.sort(levels.largest), 0.01)
    np.testing.assert_allclose(p, np.arange(100, 1, -1) / 100, atol=1e-9)
    beyond = levels.p_values(np.array([levels.largest.max() + 5]), 0.01)
    assert 0 < beyond < 1e-6
    assert "by rank among the largest residuals of 99 good images" in levels.basis(0.01)
    assert "extrapolated" in levels.basis(0.001)


@pytest.mark.parametrize("n_images", [12, 99])
def test_p_values_of_good_images_are_no_smaller_than_they_should(n_images: int) -> None:
    # As evenly as 200 images can stand for all.
    largest = stats.gumbel_r.isf((np.arange(200) + 0.5) / 200, 1, 0.1)
    p = np.array([_levels(n_images, seed).p_values(largest, 0.01) for seed in range(100)])
    for rate in (0.01, 0.05, 0.2):
        assert (p < rate).mean() < 1.25 * rate


def test_p_values_where_all_images_are_alike() -> None:
    levels = GoodLevels.of([GoodMaxima(1.0, 0.0, 100)] * 3)
    np.testing.assert_array_equal(levels.p_values(np.array([0.5, 1.0, 1.1]), 0.01), [1, 1, 0])
