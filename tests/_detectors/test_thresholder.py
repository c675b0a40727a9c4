import math
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.morphology import area_opening
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils import estimator_checks

from sklearn_ssimae._detectors.thresholder import ResidualThresholder

STRATEGIES = ["max", "quantile", "sigma", "area", "false_alarm"]
IN_BATTERY = [ResidualThresholder(), ResidualThresholder(strategy="sigma", n_sigma=2)]


def good_maps(seed=0, sizes=((20, 20),) * 5):
    rng = np.random.default_rng(seed)
    return [ndimage.gaussian_filter(rng.random(size), 1) for size in sizes]


def largest_region(masks):
    largest = 0
    for mask in masks:
        labels, n_regions = ndimage.label(mask, structure=np.ones((3, 3)))
        largest = max([largest, *(np.sum(labels == k + 1) for k in range(n_regions))])
    return largest


# scikit-learn's contract --------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("estimator", IN_BATTERY)
def test_scikit_learn_battery(estimator):
    results = estimator_checks.check_estimator(estimator, on_skip=None, on_fail="raise")
    assert [result["status"] for result in results] == ["passed"] * 51


@pytest.mark.parametrize(
    "name",
    [
        "check_param_validation",
        "check_dataframe_column_names_consistency",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_inplace_ensure_writeable",
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
# Some checks mix frames and arrays.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_checks_outside_the_battery(name):
    getattr(estimator_checks, name)("ResidualThresholder", ResidualThresholder())


@pytest.mark.parametrize(
    "parameters",
    [
        {"strategy": "mean"},
        {"quantile": 0.0},
        {"quantile": 1.0},
        {"quantile": 1},
        {"n_sigma": -1},
        {"min_area": 0},
        {"min_area": 2.5},
        {"threshold": "high"},
        {"threshold": math.nan},
    ],
)
def test_bad_parameters(parameters):
    with pytest.raises(ValueError, match=f"The '{next(iter(parameters))}' parameter"):
        ResidualThresholder(**parameters).fit(np.ones((2, 3, 3)))


@pytest.mark.parametrize("method", ["transform", "predict", "score_samples", "decision_function"])
def test_not_fitted(method):
    with pytest.raises(NotFittedError):
        getattr(ResidualThresholder(), method)(np.ones((2, 3, 3)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_clone_and_pickle(strategy):
    maps = np.stack(good_maps())
    fitted = ResidualThresholder(strategy=strategy, min_area=5).fit(maps)
    assert clone(fitted).fit(maps).threshold_ == fitted.threshold_
    assert pickle.loads(pickle.dumps(fitted)).threshold_ == fitted.threshold_


# Strategies ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [((20, 20),) * 5, ((20, 20), (7, 31), (1, 5))])
def test_threshold_of_pixels(sizes, dtype):
    maps = [values.astype(dtype) for values in good_maps(sizes=sizes)]
    pixels = np.concatenate([values.ravel() for values in maps]).astype(float)
    fitted = {
        strategy: ResidualThresholder(strategy=strategy, quantile=0.9, n_sigma=1.5).fit(maps)
        for strategy in STRATEGIES[:3]
    }
    assert fitted["max"].threshold_ == pixels.max()
    assert fitted["quantile"].threshold_ == np.quantile(pixels, 0.9)
    assert fitted["sigma"].threshold_ == pytest.approx(pixels.mean() + 1.5 * pixels.std())
    assert all(thresholder.offset_ == -thresholder.threshold_ for thresholder in fitted.values())


@pytest.mark.parametrize("n_values", [3, 20, None])
@pytest.mark.parametrize("min_area", [1, 2, 10, 60])
def test_area_is_the_lowest_threshold_that_leaves_small_regions(min_area, n_values):
    maps = good_maps(min_area, sizes=((9, 12), (8, 8), (3, 5)))
    if n_values is not None:
        maps = [np.round(values * n_values) for values in maps]
    threshold = ResidualThresholder(strategy="area", min_area=min_area).fit(maps).threshold_
    values = np.unique(np.concatenate([values.ravel() for values in maps]))
    enough = [largest_region([m > t for m in maps]) < min_area for t in values]
    assert threshold == values[enough.index(True)]
    # The largest value of an area opening is the highest level of any region that large.
    opened = [area_opening(m, min_area, connectivity=2).max() for m in maps if m.size >= min_area]
    assert threshold == max(opened)
    assert largest_region([m > np.nextafter(threshold, -1) for m in maps]) >= min_area


def test_area_counts_corners_and_each_map_alone():
    maps = np.zeros((2, 5, 5))
    maps[0, [0, 1, 2], [0, 1, 2]] = 0.7  # three pixels that share corners
    maps[1, 0, :2] = 0.8
    fitted = {k: ResidualThresholder(strategy="area", min_area=k).fit(maps) for k in (1, 2, 3, 4)}
    assert [thresholder.threshold_ for thresholder in fitted.values()] == [0.8, 0.8, 0.7, 0]


def test_area_reads_rows_as_squares_or_lines():
    images = good_maps(sizes=[(6, 6)] * 3)
    expected = ResidualThresholder(strategy="area", min_area=4).fit(images).threshold_
    rows = np.stack(images).reshape(3, 36)
    assert ResidualThresholder(strategy="area", min_area=4).fit(rows).threshold_ == expected
    lines = [row[None, :35] for row in rows]
    expected = ResidualThresholder(strategy="area", min_area=4).fit(lines).threshold_
    fitted = ResidualThresholder(strategy="area", min_area=4).fit(rows[:, :35])
    assert fitted.threshold_ == expected


def test_min_area_above_all_maps_is_refused():
    with pytest.raises(ValueError, match=r"min_area=26, but no good map has so many pixels"):
        ResidualThresholder(strategy="area", min_area=26).fit(np.ones((2, 5, 5)))
    ResidualThresholder(strategy="area", min_area=26).fit([np.ones((5, 5)), np.ones((6, 5))])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("threshold", [0.25, 0, math.inf, -math.inf])
def test_given_threshold_is_taken(strategy, threshold):
    thresholder = ResidualThresholder(strategy=strategy, threshold=threshold, min_area=10**6)
    maps = np.stack(good_maps())
    assert thresholder.fit(maps).threshold_ == threshold
    assert np.array_equal(thresholder.transform(maps), maps > threshold)
    # Nothing is learnt, so nothing is missing.
    assert thresholder.fit(maps, -np.ones(5)).threshold_ == threshold


# y ------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["array", "list", "rows"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_marked_maps_are_not_learnt_from(strategy, container):
    maps = np.stack(good_maps())
    bad = maps.copy()
    bad[[1, 3]] += 10
    masks = np.zeros(maps.shape, dtype=bool)
    masks[[1, 3], 4, 4] = True
    read = {"array": lambda x: x, "list": list, "rows": lambda x: x.reshape(len(x), -1)}[container]
    thresholder = ResidualThresholder(strategy=strategy, min_area=5)
    expected = thresholder.fit(read(maps[[0, 2, 4]])).threshold_
    for y in (masks, list(masks), masks.astype(int), [0, -1, 1, -1, 2]):
        assert thresholder.fit(read(bad), y).threshold_ == expected
    for y in (None, [0, 1, 0, 1, 2], ["a", "b", "c", "d", "e"]):
        assert thresholder.fit(read(bad), y).threshold_ > expected
    with pytest.warns(UserWarning, match="labels 0 and 1, and neither marks a defect"):
        assert thresholder.fit(read(bad), [0, 1, 0, 1, 0]).threshold_ > expected


def test_masks_of_a_sequence_of_sizes():
    maps = good_maps(sizes=[(4, 5), (6, 3), (2, 2)])
    masks = [np.zeros(values.shape, dtype=bool) for values in maps]
    maps[1] += 10
    masks[1][0, 0] = True
    fitted = ResidualThresholder(strategy="max").fit(maps, masks)
    assert fitted.threshold_ == max(maps[0].max(), maps[2].max())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_good_map_left(strategy):
    with pytest.raises(ValueError, match="y marks all 3 maps as defective"):
        ResidualThresholder(strategy=strategy).fit(np.ones((3, 4, 4)), [-1, -1, -1])


def test_bad_y():
    thresholder, maps = ResidualThresholder(), np.ones((3, 4, 5))
    with pytest.raises(ValueError, match="y has 2 entries for 3 images"):
        thresholder.fit(maps, [1, -1])
    with pytest.raises(ValueError, match=r"y\[0\] has the shape \(5, 4\), but image 0 has \(4, 5"):
        thresholder.fit(maps, np.zeros((3, 5, 4)))
    with pytest.raises(ValueError, match=r"y\[2\] is no binary mask: it holds 7"):
        thresholder.fit(maps, [np.zeros((4, 5)), np.zeros((4, 5)), np.full((4, 5), 7)])


# Maps in, masks and labels out --------------------------------------------------------


def test_containers_come_back():
    maps = np.stack(good_maps())
    thresholder = ResidualThresholder(quantile=0.9).fit(maps)
    expected = maps > thresholder.threshold_
    from_array = thresholder.transform(maps)
    from_list = thresholder.transform(list(maps.astype(np.float32)))
    from_rows = thresholder.transform(maps.reshape(5, -1))
    assert from_array.dtype == from_rows.dtype == from_list[0].dtype == bool
    assert isinstance(from_list, list)
    assert np.array_equal(from_array, expected)
    assert np.array_equal(np.stack(from_list), expected)
    assert np.array_equal(from_rows, expected.reshape(5, -1))
    assert thresholder.transform([np.zeros((3, 7)), np.ones((2, 2))])[0].shape == (3, 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("container", ["array", "list", "rows"])
def test_predict_is_minus_one_where_a_pixel_is_marked(container, dtype):
    rng = np.random.default_rng(0)
    maps = (rng.random((200, 2, 2)) * 20).astype(dtype)
    read = {"array": lambda x: x, "list": list, "rows": lambda x: x.reshape(len(x), -1)}[container]
    maps = read(maps)
    # A value between two numbers of float32, next to many maxima.
    for threshold in (np.nextafter(float(np.max(maps[3])), 0), float(np.max(maps[5])), 13.1):
        thresholder = ResidualThresholder(threshold=threshold).fit(maps)
        labels = thresholder.predict(maps)
        marked = [mask.any() for mask in thresholder.transform(maps)]
        assert labels.dtype.kind == "i"
        assert np.array_equal(labels == -1, marked)
        assert 0 < sum(marked) < 200
        scores = thresholder.score_samples(maps)
        assert scores.dtype == np.float64
        assert np.array_equal(scores, [-float(np.max(values)) for values in maps])
        assert np.array_equal(thresholder.decision_function(maps), scores - thresholder.offset_)


def test_fit_predict_and_fit_transform():
    maps = np.stack(good_maps())
    maps[2, 3, 3] = 9
    thresholder = ResidualThresholder(strategy="quantile", quantile=0.9995)
    assert thresholder.fit_predict(maps).tolist() == [1, 1, -1, 1, 1]
    assert thresholder.fit_transform(maps).sum() == 1
    assert thresholder.fit_transform(maps, [1, 1, -1, 1, 1])[2].sum() == 1


def test_rows_fix_the_number_of_features_and_images_do_not():
    thresholder = ResidualThresholder().fit(np.eye(4))
    with pytest.raises(
        ValueError, match="X has 5 features, but ResidualThresholder is expecting 4"
    ):
        thresholder.transform(np.ones((2, 5)))
    thresholder.fit(pd.DataFrame(np.eye(4), columns=list("abcd")))
    assert thresholder.n_features_in_ == 4
    assert thresholder.get_feature_names_out().tolist() == list("abcd")
    thresholder.fit(np.ones((3, 6, 6)))
    assert not hasattr(thresholder, "n_features_in_")
    assert not hasattr(thresholder, "feature_names_in_")
    assert thresholder.transform(np.ones((2, 5))).shape == (2, 5)


def test_bad_maps():
    maps = np.stack(good_maps())
    thresholder = ResidualThresholder().fit(maps)
    maps[3, 0, 0] = np.nan
    for method in (thresholder.fit, thresholder.transform, thresholder.predict):
        for bad in (maps, list(maps)):
            with pytest.raises(ValueError, match=r"X\[3\] holds NaN or infinity"):
                method(bad)
        with pytest.raises(ValueError, match=r"X\[0\] has the shape \(20, 20, 1\), a map must"):
            method(maps[..., None])
        with pytest.raises(ValueError, match=r"X\[1\] has no pixels, shape \(0, 3\)"):
            method([np.ones((2, 2)), np.ones((0, 3))])
        with pytest.raises(ValueError, match=r"X holds no maps, shape \(0, 3, 3\)"):
            method(np.ones((0, 3, 3)))
        with pytest.raises(ValueError, match=r"X\[1\] must hold real numbers"):
            method([np.ones((2, 2)), np.full((2, 2), "x")])


# score --------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["array", "list", "rows"])
def test_score(container):
    maps = np.stack(good_maps())
    masks = np.zeros(maps.shape, dtype=bool)
    masks[[1, 3], 4:9, 4:9] = True
    maps += 0.1 * masks
    X = {"array": maps, "list": list(maps), "rows": maps.reshape(5, -1)}[container]
    thresholder = ResidualThresholder().fit(X, masks)
    assert thresholder.score(X, masks) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    labels = [1, -1, 2, -1, 0]
    expected = roc_auc_score(np.array(labels) == -1, maps.max(axis=(1, 2)))
    assert thresholder.score(X, labels) == pytest.approx(expected)
    with pytest.warns(UndefinedMetricWarning, match="label of -1 marks a defective image"):
        assert math.isnan(thresholder.score(X, [0, 1, 2, 1, 0]))
