from __future__ import annotations

import numpy as np
import pytest
import torch

from sklearn_ssimae._maps.border import QUANTILE, BorderProfile


def _distance(height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))


def _good_map(
    random: np.random.Generator, shape: tuple[int, int], *, border: float = 3.0
) -> torch.Tensor:
    """Noise that is up to 1 + border times as strong towards the border."""
    noise = random.random(shape) * (1 + border * np.exp(-_distance(*shape) / 8))
    return torch.from_numpy(noise.astype(np.float32))


@pytest.mark.parametrize("shape", [(128, 128), (96, 200), (65, 63), (20, 300)])
def test_the_quantile_of_new_good_maps_is_one_at_every_distance(shape):
    random = np.random.default_rng(0)
    profile = BorderProfile.fit((_good_map(random, shape) for _ in range(40)), reach=32)
    new = torch.stack([profile.relative(_good_map(random, shape)) for _ in range(40)]).numpy()
    distance = _distance(*shape).clip(max=32)
    for ring in np.unique(distance):
        assert np.quantile(new[:, distance == ring], QUANTILE) == pytest.approx(1, abs=0.12)


def test_the_profile_never_rises_inwards():
    random = np.random.default_rng(1)
    values = BorderProfile.fit([_good_map(random, (64, 64))], reach=32).values
    assert (np.diff(values) <= 1e-6).all()
    assert values[0] > 2 * values[-1]


def test_a_border_that_is_better_than_the_inside_is_not_made_worse():
    random = np.random.default_rng(2)
    maps = [_good_map(random, (64, 64), border=-0.8) for _ in range(5)]
    values = BorderProfile.fit(maps, reach=16).values
    np.testing.assert_allclose(values[0], values[-1], rtol=0.05)


def test_logarithms_are_compared_by_difference():
    random = np.random.default_rng(3)
    maps = [_good_map(random, (64, 64)) + 0.1 for _ in range(10)]
    ratio = BorderProfile.fit(maps, reach=16)
    difference = BorderProfile.fit((m.log() for m in maps), reach=16, logarithmic=True)
    inner = (..., slice(20, -20), slice(20, -20))
    torch.testing.assert_close(
        difference.relative(maps[0].log())[inner],
        ratio.relative(maps[0]).log()[inner],
        atol=0.02,
        rtol=0,
    )


def test_what_is_laid_out_over_an_image_is_the_value_at_the_nearest_border():
    values = np.array([4.0, 3.0, 2.0, 1.0], dtype=np.float32)
    expected = BorderProfile(values).expected(9, 14).numpy()
    np.testing.assert_array_equal(expected, values[_distance(9, 14).clip(max=3)])


def test_leading_axes_and_dtype_are_kept():
    profile = BorderProfile(np.array([2.0, 1.0]))
    maps = torch.ones(3, 2, 5, 6, dtype=torch.float64)
    relative = profile.relative(maps)
    assert relative.shape == maps.shape
    assert relative.dtype == maps.dtype
    assert relative[1, 1, 0, 0] == 0.5
    assert relative[1, 1, 2, 2] == 1


def test_maps_smaller_than_the_reach_and_of_several_sizes():
    maps = [torch.full((8, 8), 2.0), torch.full((40, 6), 2.0), torch.full((1, 1), 2.0)]
    profile = BorderProfile.fit(maps, reach=64)
    np.testing.assert_allclose(profile.values, 2)
    # Larger images than any seen: the innermost value that is known holds.
    torch.testing.assert_close(
        profile.relative(torch.full((300, 300), 3.0)).max(), torch.tensor(1.5)
    )


def test_images_without_any_residual_give_finite_maps():
    profile = BorderProfile.fit([torch.zeros(32, 32)], reach=16)
    assert (profile.relative(torch.zeros(32, 32)) == 0).all()
    assert torch.isfinite(profile.relative(torch.ones(32, 32))).all()


def test_maps_are_taken_one_at_a_time_and_few_of_their_values_are_kept():
    def maps():
        for _ in range(3):
            yield torch.ones(2000, 1500)

    assert BorderProfile.fit(maps(), reach=64).values.shape == (65,)


def test_an_exporter_follows_it():
    profile = BorderProfile(np.linspace(3, 1, 16))

    class Relative(torch.nn.Module):
        def forward(self, residual: torch.Tensor) -> torch.Tensor:
            return profile.relative(residual)

    residual = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(Relative(), (residual,), strict=False)
    torch.testing.assert_close(program.module()(residual), profile.relative(residual))


def test_values_that_are_not_a_number_do_not_count():
    random = np.random.default_rng(4)
    maps = [_good_map(random, (64, 64)) for _ in range(4)]
    spoilt = [residual.clone() for residual in maps]
    for residual in spoilt:
        residual[:, 40:] = torch.nan
    values = BorderProfile.fit(spoilt, reach=16).values
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values, BorderProfile.fit(maps, reach=16).values, rtol=0.1)
