import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score

from sklearn_ssimae import metrics
from sklearn_ssimae.metrics import (
    iou_score,
    pixel_average_precision_score,
    pixel_roc_auc_score,
    pro_auc_score,
)

RANKING = [pixel_roc_auc_score, pixel_average_precision_score, pro_auc_score]
ALL = [*RANKING, iou_score]
SIZES = [(7, 9), (5, 5), (1, 12), (8, 3)]


def flat(images):
    return np.concatenate([np.ravel(image) for image in images])


def example(seed, sizes=SIZES, n_values=10):
    """Masks with defects and maps with many ties."""
    rng = np.random.default_rng(seed)
    masks = [rng.random(size) < 0.3 for size in sizes]
    maps = [rng.integers(0, n_values, mask.shape) / n_values + 0.2 * mask for mask in masks]
    return masks, maps


def brute_force_pro(masks, maps, max_fpr):
    """The curve of every distinct threshold, straight from the definition."""
    regions = []
    for index, mask in enumerate(masks):
        labels, n_regions = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(index, labels == label + 1) for label in range(n_regions)]
    n_good = sum(np.count_nonzero(~mask) for mask in masks)
    curve = [(0.0, 0.0)]
    for threshold in np.unique(flat(maps))[::-1]:
        marked = [values >= threshold for values in maps]
        overlap = np.mean([marked[i][region].mean() for i, region in regions])
        false = sum(np.count_nonzero(m & ~mask) for m, mask in zip(marked, masks, strict=True))
        curve.append((false / n_good, float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 >= max_fpr or x1 == x0:
            continue
        end = min(x1, max_fpr)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / max_fpr


class Lazy:
    """The least that a sequence must offer. It ends with no IndexError."""

    def __init__(self, items):
        self.items = items
        self.taken = []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.taken.append(index)
        return self.items[index % len(self.items)]


# Exact values -------------------------------------------------------------------------


@pytest.mark.parametrize("n_values", [2, 10, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_ranking_metrics_equal_scikit_learn(seed, n_values):
    masks, maps = example(seed, n_values=n_values)
    auc, precision = pixel_roc_auc_score(masks, maps), pixel_average_precision_score(masks, maps)
    assert auc == pytest.approx(roc_auc_score(flat(masks), flat(maps)), abs=1e-14)
    expected = average_precision_score(flat(masks), flat(maps))
    assert precision == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("n_values", [1, 2, 10, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_pro_equals_brute_force(seed, n_values):
    masks, maps = example(seed, n_values=n_values)
    for max_fpr in (1e-3, 0.05, 0.3, 0.5, 1.0):
        expected = brute_force_pro(masks, maps, max_fpr)
        assert pro_auc_score(masks, maps, max_fpr=max_fpr) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pro_of_any_small_image(data):
    def pixels(values):
        return np.array(data.draw(st.lists(values, min_size=20, max_size=20))).reshape(1, 4, 5)

    masks, maps = pixels(st.booleans()), pixels(st.integers(-3, 3))
    masks[0, 0, 0], masks[0, 3, 4] = True, False
    max_fpr = data.draw(st.floats(0.01, 1))
    score = pro_auc_score(masks, maps, max_fpr=max_fpr)
    assert 0 <= score <= 1
    assert score == pytest.approx(brute_force_pro(masks, maps, max_fpr), abs=1e-12)


@pytest.mark.parametrize("n_regions", [1, 3, 7, 11])
def test_pro_of_perfect_maps_is_one_and_never_above(n_regions):
    masks = np.zeros((n_regions, 9, 9), dtype=bool)
    for index in range(n_regions):
        masks[index, 1 : 2 + index % 3, 1:4] = True
    maps = masks + np.random.default_rng(0).random(masks.shape) / 2
    for max_fpr in (0.013, 0.1, 0.3, 1 / 3, 0.7, 1):
        score = pro_auc_score(masks, maps, max_fpr=max_fpr)
        assert score <= 1
        assert score == pytest.approx(1, abs=1e-12)


def test_pro_counts_regions_not_pixels_and_joins_corners():
    masks = np.zeros((1, 10, 10), dtype=bool)
    masks[0, 5:9, 5:9] = True
    masks[0, 1, 1] = masks[0, 2, 2] = True  # one region, by the corner
    maps = np.zeros(masks.shape)
    maps[0, 5:9, 5:9] = 1
    # Half of the regions is found at once, the other half with all good pixels.
    assert pro_auc_score(masks, maps, max_fpr=1) == pytest.approx(0.75)


@pytest.mark.parametrize("seed", range(3))
def test_iou_equals_scikit_learn(seed):
    masks, maps = example(seed)
    found = [values > 0.6 for values in maps]
    assert iou_score(masks, found) == pytest.approx(jaccard_score(flat(masks), flat(found)))


def test_iou_of_empty_masks_is_one():
    empty = np.zeros((2, 4, 4), dtype=bool)
    assert iou_score(empty, empty) == 1
    assert iou_score(empty, ~empty) == 0


# Beyond the exact limit ---------------------------------------------------------------


def skewed(rng, mask):
    return rng.standard_exponential(mask.shape) ** 4 * 1e-3 + mask * rng.random(mask.shape) * 1e-2


def uniform(rng, mask):
    return rng.random(mask.shape) ** np.where(mask, 0.5, 1)


def mostly_zero(rng, mask):
    return np.maximum(rng.standard_normal(mask.shape) - 1 + mask, 0)


def far_from_zero(rng, mask):
    return 1e3 + 1e-3 * rng.standard_normal(mask.shape) + 1e-3 * mask


def negative(rng, mask):
    return -(rng.standard_exponential(mask.shape) ** 3) + mask


def constant(rng, mask):
    return np.full(mask.shape, 0.5)


DISTRIBUTIONS = [skewed, uniform, mostly_zero, far_from_zero, negative, constant]


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_error_of_bins_is_as_stated(monkeypatch, distribution, share):
    rng = np.random.default_rng(0)
    rows = np.arange(300) < 300 * math.sqrt(share)
    mask = rows[:, None] & rows
    masks = [mask, mask, mask[:100, :50], np.zeros((300, 200), bool)]
    maps = [distribution(rng, mask) for mask in masks]
    exact = [metric(masks, maps) for metric in RANKING]
    monkeypatch.setattr(metrics, "MAX_EXACT_PIXELS", 1000)
    # Fewer than the pixels of this small example.
    monkeypatch.setattr(metrics, "_N_SAMPLED", 2**14)
    monkeypatch.setattr(metrics, "_N_QUANTILES", 2**10)
    auc, precision, pro = (metric(masks, maps) for metric in RANKING)
    # With 64 times fewer quantiles than usual, 64 times the error is allowed.
    assert auc == pytest.approx(exact[0], abs=64 * 2e-5)
    assert precision == pytest.approx(exact[1], abs=64 * 1e-3)
    assert pro == pytest.approx(exact[2], abs=64 * 2e-5 / 0.3)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_usual_error_of_bins_is_as_stated(monkeypatch, distribution):
    rng = np.random.default_rng(1)
    masks = np.zeros((4, 400, 400), dtype=bool)
    masks[:, 50:350, 100:300] = True
    maps = distribution(rng, masks).astype(np.float32)
    exact = [metric(masks, maps) for metric in RANKING]
    monkeypatch.setattr(metrics, "MAX_EXACT_PIXELS", 1000)
    auc, precision, pro = (metric(masks, maps) for metric in RANKING)
    assert auc == pytest.approx(exact[0], abs=1e-8)
    assert precision == pytest.approx(exact[1], abs=1e-5)
    assert pro == pytest.approx(exact[2], abs=1e-7)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_bins_hold_few_pairs_of_distinct_values(monkeypatch, distribution):
    """Half the share of the tied pairs bounds the error; the docstring states 2e-5."""
    rng = np.random.default_rng(2)
    masks = np.zeros((3, 700, 700), dtype=bool)
    masks[:, :350] = True
    maps = distribution(rng, masks)
    edges = metrics._Ranking(masks, maps)._edges()
    shares = [
        metrics._histogram(values, edges) / len(values) for values in (maps[masks], maps[~masks])
    ]
    # Bins that hold one value alone tie nothing that is not tied.
    wide = np.append(True, np.append(np.nextafter(edges[:-1], np.inf) < edges[1:], True))
    assert np.sum(shares[0][wide] * shares[1][wide]) / 2 < 2e-5


def test_bins_are_exact_for_few_defect_pixels(monkeypatch):
    rng = np.random.default_rng(3)
    masks = rng.random((2, 200, 200)) < 0.05
    maps = skewed(rng, masks)
    expected = roc_auc_score(masks.ravel(), maps.ravel())
    monkeypatch.setattr(metrics, "MAX_EXACT_PIXELS", 1000)
    monkeypatch.setattr(metrics, "_N_QUANTILES", 2**13)
    assert pixel_roc_auc_score(masks, maps) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("metric", RANKING)
def test_memory_does_not_grow_with_the_number_of_images(monkeypatch, metric):
    monkeypatch.setattr(metrics, "MAX_EXACT_PIXELS", 1000)
    monkeypatch.setattr(metrics, "_N_SAMPLED", 2**12)
    monkeypatch.setattr(metrics, "_N_QUANTILES", 2**10)

    class Images:
        def __init__(self, n_images, make):
            self.n_images, self.make = n_images, make

        def __len__(self):
            return self.n_images

        def __getitem__(self, index):
            return self.make(np.random.default_rng(index).random((100, 100)))

    def peak(n_images):
        y_true = Images(n_images, lambda values: values > 0.9)
        y_score = Images(n_images, lambda values: values.astype(np.float32))
        tracemalloc.start()
        assert metric(y_true, y_score) == pytest.approx(1, abs=1e-4)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(60) < 1.2 * peak(6)


# Containers ---------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 10_000])
@pytest.mark.parametrize("metric", ALL)
def test_containers_agree(monkeypatch, tmp_path, metric, limit):
    monkeypatch.setattr(metrics, "MAX_EXACT_PIXELS", limit)
    masks, maps = example(0, sizes=[(6, 7)] * 4)
    if metric is iou_score:
        maps = [values > 0.6 for values in maps]
    expected = metric(masks, maps)
    mapped = np.memmap(tmp_path / "maps", dtype=np.asarray(maps).dtype, shape=(4, 6, 7), mode="w+")
    mapped[:] = maps
    mapped.flush()
    assert metric(np.stack(masks), np.stack(maps)) == expected
    assert metric(np.stack(masks).astype(np.uint8), mapped) == expected
    assert metric(np.stack(masks)[..., None].astype(float), tuple(maps)) == expected
    assert metric(Lazy(masks), Lazy(maps)) == expected
    assert isinstance(expected, float)


@pytest.mark.parametrize("limit", [0, 10_000])
@pytest.mark.parametrize("metric", ALL)
def test_lazy_images_are_taken_at_most_three_times(monkeypatch, metric, limit):
    monkeypatch.setattr(metrics, "MAX_EXACT_PIXELS", limit)
    masks, maps = example(0)
    maps = Lazy([values > 0.6 for values in maps])
    metric(masks, maps)
    assert max(maps.taken.count(index) for index in range(len(SIZES))) <= 3


@pytest.mark.parametrize("metric", RANKING)
@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.int64, np.uint8, np.longdouble, bool])
def test_dtypes_of_maps(metric, dtype):
    masks, maps = example(0)
    maps = [np.round(values * 100).astype(dtype) for values in maps]
    expected = metric(masks, [values.astype(np.float64) for values in maps])
    assert metric(masks, maps) == expected


@pytest.mark.parametrize("metric", ALL)
def test_inputs_are_left_alone(metric):
    masks, maps = example(0)
    maps = [(values > 0.6).astype(np.float64) for values in maps]
    before = [values.copy() for values in masks + maps]
    for values in masks + maps:
        values.flags.writeable = False
    metric(masks, maps)
    assert all(np.array_equal(a, b) for a, b in zip(before, masks + maps, strict=True))


# One class alone ----------------------------------------------------------------------


@pytest.mark.parametrize("mask", [False, True])
def test_roc_auc_of_one_class_is_nan(mask):
    with pytest.warns(UndefinedMetricWarning, match=r"needs defect pixels .* and good pixels"):
        assert math.isnan(pixel_roc_auc_score(np.full((1, 2, 3), mask), np.ones((1, 2, 3))))


def test_average_precision_of_one_class():
    maps = np.random.default_rng(0).random((1, 2, 3))
    with pytest.warns(UndefinedMetricWarning, match="0 defect pixels and 6 good ones"):
        assert math.isnan(pixel_average_precision_score(np.zeros((1, 2, 3)), maps))
    assert pixel_average_precision_score(np.ones((1, 2, 3)), maps) == 1


def test_pro_needs_both_classes():
    maps = np.ones((2, 2, 3))
    with pytest.raises(ValueError, match="no defect pixel in 2 masks"):
        pro_auc_score(np.zeros((2, 2, 3)), maps)
    with pytest.raises(ValueError, match="every pixel of 2 masks"):
        pro_auc_score(np.ones((2, 2, 3)), maps)


# Bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ALL)
def test_shapes_and_lengths_must_agree(metric):
    masks = np.eye(4, dtype=bool)[None].repeat(3, axis=0)
    other = [np.eye(4), np.eye(4), np.ones((4, 5))]
    with pytest.raises(ValueError, match=r"y_true\[2\].*\(4, 4\).*\[2\] has \(4, 5\)"):
        metric(masks, other)
    with pytest.raises(ValueError, match=r"y_true has 3 images, .* has 2"):
        metric(masks, other[:2])
    with pytest.raises(ValueError, match="empty"):
        metric([], [])
    with pytest.raises(ValueError, match=r"y_true\[0\] has the shape \(4,\)"):
        metric(masks[0], other[0])


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("bad", "message"),
    [(255.0, "0.0, 255.0"), (0.5, "0.0, 0.5"), (np.nan, "0.0, nan"), (-1.0, "-1.0, 0.0")],
)
def test_masks_must_be_binary(metric, bad, message):
    masks = np.zeros((2, 3, 3))
    masks[1, 0, 0] = bad
    with pytest.raises(ValueError, match=rf"y_true\[1\] is no binary mask: it holds {message}"):
        metric(masks, np.zeros((2, 3, 3)))


def test_masks_of_text_and_of_many_values_are_refused():
    with pytest.raises(ValueError, match=r"y_true\[0\] is no binary mask: it holds dtype <U1"):
        iou_score(np.full((1, 2, 2), "x"), np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r"y_pred\[0\] .* 0, 1, 2, 3, … \(9 values\)"):
        iou_score(np.zeros((1, 3, 3)), np.arange(9).reshape(1, 3, 3))


@pytest.mark.parametrize("metric", RANKING)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_maps_must_be_finite(metric, bad):
    masks, maps = example(0)
    maps[2][0, 5] = bad
    with pytest.raises(ValueError, match=r"y_score\[2\] holds NaN or infinity"):
        metric(masks, maps)


@pytest.mark.parametrize("metric", RANKING)
def test_maps_must_be_real_images(metric):
    masks = np.eye(3, dtype=bool)[None]
    with pytest.raises(ValueError, match=r"y_score\[0\] must hold real numbers, got dtype compl"):
        metric(masks, masks * 1j)
    with pytest.raises(ValueError, match=r"y_score\[0\] has the shape \(3, 3, 2\)"):
        metric(masks, np.zeros((1, 3, 3, 2)))


@pytest.mark.parametrize("max_fpr", [0, -0.1, 1.1, np.nan, "0.3", None])
def test_max_fpr_must_be_a_share(max_fpr):
    masks, maps = example(0)
    with pytest.raises(ValueError, match=r"max_fpr must be a number in \(0, 1\]"):
        pro_auc_score(masks, maps, max_fpr=max_fpr)
