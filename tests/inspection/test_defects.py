"""Defects as a table."""

import numpy as np
import pandas as pd
import pytest
from shared import cheap, texture

from sklearn_ssimae import L2AutoencoderDetector
from sklearn_ssimae.inspection import find_defects
from sklearn_ssimae.inspection._defects import measure

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_a_rectangle_is_measured():
    residual = np.zeros((40, 60))
    residual[10:14, 20:50] = 2.0
    residual[11, 30] = 5.0
    residual[0, 3] = 3.0
    table = measure(residual, 1.0, mm_per_pixel=0.5)
    np.testing.assert_array_equal(table["area"], [1, 120])
    box = [table[name][1] for name in ("top", "left", "bottom", "right")]
    assert box == [10, 20, 14, 50]
    assert (table["centroid_row"][1], table["centroid_column"][1]) == (11.5, 34.5)
    # The ellipse of a rectangle's second moments: 4 times the deviation of an even distribution.
    assert table["longer_axis"][1] == pytest.approx(4 * np.sqrt((30**2 - 1) / 12), rel=0.01)
    assert table["shorter_axis"][1] == pytest.approx(4 * np.sqrt((4**2 - 1) / 12), rel=0.04)
    assert abs(table["orientation"][1]) == pytest.approx(90)
    assert (table["peak"][1], table["mean"][1]) == (5.0, pytest.approx((119 * 2 + 5) / 120))
    np.testing.assert_array_equal(table["touches_border"], [True, False])
    assert table["area_mm2"][1] == 30.0
    assert table["longer_axis_mm"][1] == table["longer_axis"][1] / 2


@pytest.fixture(scope="module")
def detector():
    return cheap(L2AutoencoderDetector).fit(texture(4, 32, 40))


def test_rows_are_those_of_the_masks(detector):
    X = texture(3, 32, 40)
    X[1, 8:20, 10:26] = 1 - X[1, 8:20, 10:26]
    detector.set_params(threshold=float(np.quantile(detector.transform(X), 0.97)))
    defects = pd.DataFrame(find_defects(detector, X, mm_per_pixel=0.2))
    masks = detector.segment(X)
    areas = defects.groupby("image").area.sum().reindex(range(3), fill_value=0)
    np.testing.assert_array_equal(areas, masks.sum(axis=(1, 2)))
    found = defects.set_index("image").peak.groupby("image").max()
    for index, peak in found.items():
        assert peak == pytest.approx(-detector.score_samples(X)[index])


@pytest.mark.parametrize("below", [True, False])
def test_a_peak_next_to_the_threshold(detector, below):
    """What is a defect in the mask is one in the table: maps are float32, thresholds float64."""
    X = texture(1, 32, 40).astype(np.float32)
    peak = float(detector.transform(X).max())
    detector.set_params(threshold=float(np.nextafter(peak, -np.inf if below else np.inf)))
    assert detector.segment(X).any() == below
    assert len(find_defects(detector, X)["area"]) == below


def test_nothing_found_is_an_empty_table(detector):
    detector.set_params(threshold=1e9)
    table = find_defects(detector, texture(2, 32, 40))
    assert {len(column) for column in table.values()} == {0}
    assert "area_mm2" not in table


@pytest.mark.parametrize("mm", [0, -1, np.inf, np.nan, "1"])
def test_what_is_no_length_is_refused(detector, mm):
    with pytest.raises(ValueError, match="mm_per_pixel must be a number above 0"):
        find_defects(detector, texture(1, 32, 40), mm_per_pixel=mm)


def test_other_estimators_are_refused():
    with pytest.raises(TypeError, match="needs a fitted detector of this package, got int"):
        find_defects(3, [])
