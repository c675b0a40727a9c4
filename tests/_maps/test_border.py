from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from sklearn_ssimae._maps.border import QUANTILE, BorderProfile, Sides

ALL_SIDES = (True, True, True, True)


def _distance(height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))


def _good_map(
    random: np.random.Generator, shape: tuple[int, int], *, border: float = 3.0
) -> torch.Tensor:
    """Noise that is up to 1 + border times as strong towards the border."""
    noise = random.random(shape) * (1 + border * np.exp(-_distance(*shape) / 8))
    return torch.from_numpy(noise.astype(np.float32))


def _whole(maps: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, Sides]]:
    return ((residual, ALL_SIDES) for residual in maps)


def _selvaged(
    random: np.random.Generator, shape: tuple[int, int], side: int = 3, width: int = 10
) -> torch.Tensor:
    """Noise that is three times as strong in some pixels along one side: the left one."""
    noise = random.random(shape).astype(np.float32)
    noise[_distances_to(*shape)[side] < width] *= 3
    return torch.from_numpy(noise)


def _distances_to(height: int, width: int) -> np.ndarray:
    """Distances (4, h, w) to the upper, right, lower and left border."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, width - 1 - columns, height - 1 - rows, columns])


@pytest.mark.parametrize("shape", [(128, 128), (96, 200), (65, 63), (20, 300)])
def test_the_quantile_of_new_good_maps_is_one_at_every_distance(shape):
    random = np.random.default_rng(0)
    profile = BorderProfile.fit(_whole(_good_map(random, shape) for _ in range(40)), reach=32)
    new = torch.stack([profile.relative(_good_map(random, shape)) for _ in range(40)]).numpy()
    distance = _distance(*shape).clip(max=32)
    for ring in np.unique(distance):
        assert np.quantile(new[:, distance == ring], QUANTILE) == pytest.approx(1, abs=0.12)


def test_the_profile_never_rises_inwards():
    random = np.random.default_rng(1)
    values = BorderProfile.fit(_whole([_good_map(random, (64, 64))]), reach=32).values
    assert (np.diff(values) <= 1e-6).all()
    assert (values[:, 0] > 2 * values[:, -1]).all()


def test_a_border_that_is_better_than_the_inside_is_not_made_worse():
    random = np.random.default_rng(2)
    maps = [_good_map(random, (64, 64), border=-0.8) for _ in range(5)]
    values = BorderProfile.fit(_whole(maps), reach=16).values
    np.testing.assert_allclose(values[:, 0], values[:, -1], rtol=0.05)


def test_logarithms_are_compared_by_difference():
    random = np.random.default_rng(3)
    maps = [_good_map(random, (64, 64)) + 0.1 for _ in range(10)]
    ratio = BorderProfile.fit(_whole(maps), reach=16)
    difference = BorderProfile.fit(_whole(m.log() for m in maps), reach=16, logarithmic=True)
    inner = (..., slice(20, -20), slice(20, -20))
    torch.testing.assert_close(
        difference.relative(maps[0].log())[inner],
        ratio.relative(maps[0]).log()[inner],
        atol=0.02,
        rtol=0,
    )


def test_what_is_laid_out_over_an_image_is_the_value_at_the_nearest_border():
    values = np.array([4.0, 3.0, 2.0, 1.0], dtype=np.float32)
    expected = BorderProfile(np.tile(values, (4, 1))).expected(9, 14).numpy()
    np.testing.assert_array_equal(expected, values[_distance(9, 14).clip(max=3)])


def test_leading_axes_and_dtype_are_kept():
    profile = BorderProfile(np.tile([2.0, 1.0], (4, 1)))
    maps = torch.ones(3, 2, 5, 6, dtype=torch.float64)
    relative = profile.relative(maps)
    assert relative.shape == maps.shape
    assert relative.dtype == maps.dtype
    assert relative[1, 1, 0, 0] == 0.5
    assert relative[1, 1, 2, 2] == 1


def test_maps_smaller_than_the_reach_and_of_several_sizes():
    maps = [torch.full((8, 8), 2.0), torch.full((40, 6), 2.0), torch.full((1, 1), 2.0)]
    profile = BorderProfile.fit(_whole(maps), reach=64)
    np.testing.assert_allclose(profile.values, 2)
    # Larger images than any seen: the innermost value that is known holds.
    torch.testing.assert_close(
        profile.relative(torch.full((300, 300), 3.0)).max(), torch.tensor(1.5)
    )


def test_images_without_any_residual_give_finite_maps():
    profile = BorderProfile.fit(_whole([torch.zeros(32, 32)]), reach=16)
    assert (profile.relative(torch.zeros(32, 32)) == 0).all()
    assert torch.isfinite(profile.relative(torch.ones(32, 32))).all()


def test_maps_are_taken_one_at_a_time_and_few_of_their_values_are_kept():
    def maps():
        for _ in range(3):
            yield torch.ones(2000, 1500)

    assert BorderProfile.fit(_whole(maps()), reach=64).values.shape == (4, 65)


def test_an_exporter_follows_it():
    profile = BorderProfile(np.linspace([3, 5, 4, 2], 1, 16, axis=1))

    class Relative(torch.nn.Module):
        def forward(self, residual: torch.Tensor) -> torch.Tensor:
            return profile.relative(residual)

    residual = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(Relative(), (residual,), strict=False)
    torch.testing.assert_close(program.module()(residual), profile.relative(residual))


@pytest.mark.parametrize("side", range(4))
@pytest.mark.parametrize("width", [10, 24])
@pytest.mark.parametrize("shape", [(256, 256), (200, 512)])
def test_a_side_that_shows_more_counts_by_what_it_shows_itself(shape, width, side):
    random = np.random.default_rng(4)
    maps = [_selvaged(random, shape, side, width) for _ in range(28)]
    profile = BorderProfile.fit(_whole(maps[:8]), reach=32)
    new = torch.stack([profile.relative(residual) for residual in maps[8:]])
    distances = _distances_to(*shape)
    far_from_others = (np.delete(distances, side, axis=0) >= 32).all(axis=0)
    for distance in range(32):
        values = new[:, far_from_others & (distances[side] == distance)].numpy()
        # The smoothing blurs the selvage's end.
        if abs(distance - width + 0.5) > 4:
            assert np.quantile(values, QUANTILE) == pytest.approx(1, abs=0.12)
    # Of the other sides only the corners show it.
    np.testing.assert_allclose(np.delete(profile.values, side, axis=0), 0.95, rtol=0.05)


def test_sides_that_are_alike_have_much_the_same_profile():
    random = np.random.default_rng(5)
    maps = [_good_map(random, (96, 96)) for _ in range(8)]
    values = BorderProfile.fit(_whole(maps), reach=32).values
    np.testing.assert_allclose(values, np.tile(values.mean(axis=0), (4, 1)), rtol=0.12)


def test_few_maps_tell_no_side_from_another():
    random = np.random.default_rng(6)
    maps = [_selvaged(random, (96, 96)) for _ in range(5)]
    assert not BorderProfile.fit(_whole(maps[:4]), reach=32).by_side
    assert BorderProfile.fit(_whole(maps), reach=32).by_side
    assert not BorderProfile.fit(_whole(maps), reach=32, by_side=False).by_side
    assert BorderProfile.fit(_whole(maps[:4]), reach=32, by_side=True).by_side


def test_where_a_region_is_cut_is_no_side():
    random = np.random.default_rng(7)
    # Strips of the two ends of images with selvages at the left and at the right.
    at_left, at_right = (True, False, True, True), (True, True, True, False)
    maps = [(_selvaged(random, (96, 40), 3), at_left) for _ in range(5)]
    maps += [(_selvaged(random, (96, 40), 1), at_right) for _ in range(5)]
    _, right, _, left = BorderProfile.fit(maps, reach=32).values[:, 0]
    assert [left, right] == pytest.approx([3 * 0.95] * 2, rel=0.05)
    # Were cuts sides, half of what is seen there would be no selvage.
    _, right, _, left = BorderProfile.fit(_whole(m for m, _ in maps), reach=32).values[:, 0]
    assert max(left, right) < 3 * 0.93
    # Strips of one end alone tell nothing of the other.
    assert not BorderProfile.fit(maps[:5], reach=32).by_side
    assert not BorderProfile.fit(maps[:5], reach=32, by_side=True).by_side
