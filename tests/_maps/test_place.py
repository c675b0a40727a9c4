"""Maps relative to what good images show in the same column and row."""

import numpy as np
import pytest
import torch

from sklearn_ssimae._maps.place import BOTH, COLUMNS, NO_AXES, ROWS, PlaceProfile

PATCH = 32


def maps(n, *, columns=1.0, rows=1.0, wanders=0, seed=0):
    """Noise (200, 300), stronger in the columns 40 to 70 and in the rows 120 to 150."""
    random = np.random.default_rng(seed)
    result = []
    for _ in range(n):
        noise = random.gamma(4.0, size=(200, 300)).astype(np.float32)
        shift = random.integers(-wanders, wanders + 1)
        noise[:, 40 + shift : 70 + shift] *= columns
        noise[120:150] *= rows
        result.append(torch.from_numpy(noise))
    return result


@pytest.mark.parametrize("axes", [COLUMNS, ROWS, BOTH])
def test_places_that_show_more_count_as_the_rest(axes):
    strong = {"columns": 5.0 if axes[0] else 1.0, "rows": 4.0 if axes[1] else 1.0}
    profile = PlaceProfile.fit(maps(6, **strong), axes, patch_size=PATCH)
    assert profile.axes == axes
    (new,) = maps(1, **strong, seed=1)
    relative = profile.relative(new).numpy()
    elsewhere = np.quantile(relative[:100, 130:], 0.95)
    if axes[0]:
        assert np.quantile(relative[:100, 45:65], 0.95) == pytest.approx(elsewhere, rel=0.25)
    if axes[1]:
        assert np.quantile(relative[125:145, 130:], 0.95) == pytest.approx(elsewhere, rel=0.25)
    # Far from them nothing has changed.
    assert elsewhere == pytest.approx(np.quantile(new[:100, 130:], 0.95), rel=0.1)


def test_a_selvage_may_wander():
    profile = PlaceProfile.fit(maps(6, columns=5.0, wanders=6), COLUMNS, patch_size=PATCH)
    (new,) = maps(1, columns=5.0, wanders=6, seed=5)
    assert profile.relative(new).max() < 1.5 * maps(1, seed=5)[0].max()


def test_logarithms_are_compared_by_difference():
    strong = maps(5, columns=5.0, rows=3.0)
    ratio = PlaceProfile.fit(strong, BOTH, patch_size=PATCH)
    difference = PlaceProfile.fit(
        [residual.log() for residual in strong], BOTH, patch_size=PATCH, logarithmic=True
    )
    torch.testing.assert_close(
        difference.relative(strong[0].log()), ratio.relative(strong[0]).log(), atol=1e-4, rtol=0
    )


def test_no_axes_change_nothing_and_neither_do_images_of_another_size():
    (residual,) = maps(1)
    assert PlaceProfile.fit([residual], NO_AXES, patch_size=PATCH).relative(residual) is residual
    profile = PlaceProfile.fit([residual], BOTH, patch_size=PATCH)
    other = torch.rand(50, 60)
    assert profile.relative(other) is other
    tall = torch.rand(50, 300)  # an axis by itself
    expected = tall / torch.from_numpy(np.exp(profile.columns))
    torch.testing.assert_close(profile.relative(tall), expected)


def test_columns_of_which_nothing_counts_are_as_their_neighbours():
    strong = maps(4, columns=5.0)
    for residual in strong:
        residual[:, :30] = torch.nan
        residual[:50] = torch.nan
    profile = PlaceProfile.fit(strong, COLUMNS, patch_size=PATCH).columns
    assert np.isfinite(profile).all()
    whole = PlaceProfile.fit(maps(4, columns=5.0), COLUMNS, patch_size=PATCH).columns
    np.testing.assert_allclose(profile[60:], whole[60:], atol=0.1)


def test_an_exporter_follows_it():
    profile = PlaceProfile.fit(maps(2, columns=3.0), BOTH, patch_size=PATCH)

    class Relative(torch.nn.Module):
        def forward(self, residual: torch.Tensor) -> torch.Tensor:
            return profile.relative(residual)

    residual = torch.rand(2, 200, 300)
    program = torch.export.export(Relative(), (residual,), strict=False)
    torch.testing.assert_close(program.module()(residual), profile.relative(residual))
