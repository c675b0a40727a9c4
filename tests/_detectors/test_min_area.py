"""The smallest region that counts: an opening of the map by area."""

import numpy as np
import pytest
from scipy import ndimage
from shared import cheap, texture
from skimage.morphology import area_opening, remove_small_objects

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae._maps.areas import EIGHT_NEIGHBOURS, without_small_regions
from sklearn_ssimae.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def residual():
    noise = np.random.default_rng(0).normal(size=(90, 70))
    return np.abs(ndimage.gaussian_filter(noise, 1.5)).astype(np.float32)


@pytest.mark.parametrize("floor", [-np.inf, 0.1, 0.3, 9.0])
@pytest.mark.parametrize("min_area", [0, 1, 2, 12, 500])
def test_it_is_scikit_images_opening_above_the_floor(residual, floor, min_area):
    opened = without_small_regions(residual, min_area, floor)
    above = np.maximum(residual, np.float32(floor))
    expected = area_opening(above, max(1, min_area), connectivity=2)
    np.testing.assert_array_equal(np.maximum(opened, np.float32(floor)), expected)
    low = residual <= floor
    np.testing.assert_array_equal(opened[low], residual[low])
    assert opened.dtype == residual.dtype


def test_at_every_threshold_small_regions_are_gone(residual):
    opened = without_small_regions(residual, 12, 0.1)
    for threshold in np.linspace(0.1, residual.max(), 9):
        expected = remove_small_objects(residual > threshold, max_size=11, connectivity=2)
        np.testing.assert_array_equal(opened > threshold, expected)


@pytest.mark.parametrize("params", [{}, {"residual": "plain"}, {"scale": 0.5}])
def test_masks_scores_and_labels_agree(cls, params):
    good = texture(4, 32, 40)
    detector = cheap(cls, min_area=12, **params).fit(good)
    X = texture(6, 32, 40)
    X[1, 8:20, 10:26] = 1 - X[1, 8:20, 10:26]
    maps = detector.transform(X)
    detector.set_params(threshold=float(np.quantile(maps, 0.9)))
    maps, masks = detector.transform(X), detector.segment(X)
    assert masks.any()
    for mask in masks:
        labels, n_regions = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
        assert n_regions == 0 or np.bincount(labels.ravel())[1:].min() >= 12
    np.testing.assert_array_equal(detector.predict(X) == -1, masks.any(axis=(1, 2)))
    np.testing.assert_array_equal(-detector.score_samples(X), maps.max(axis=(1, 2)))


def test_the_threshold_is_learnt_for_the_opened_map():
    good = texture(4, 32, 40)
    detector = cheap(SSIMAutoencoderDetector).fit(good)
    opened = cheap(SSIMAutoencoderDetector, min_area=30).fit(good)
    assert opened.threshold_ < detector.threshold_
    with pytest.warns(UserWarning, match="min_area is 30 and was 0"):
        detector.set_params(min_area=30).predict(good)


def test_no_graph_holds_it(tmp_path):
    detector = cheap(min_area=5).fit(texture(4, 32, 40))
    with pytest.raises(ValueError, match="min_area=5 cannot be exported"):
        to_onnx(detector, tmp_path / "detector.onnx", (32, 40))
