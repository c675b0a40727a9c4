import math
import warnings

import numpy as np
import pandas as pd
import pytest
from shared import cheap
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import _NotAnArray

from sklearn_ssimae import ResidualThresholder
from sklearn_ssimae._images.labels import (
    check_mask_shapes,
    good_images,
    in_shape_of,
    is_masks,
    learnable,
    masks_of_rows,
    score_maps,
)


class Lazy:
    """The least that a sequence must offer. It ends with no IndexError."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index % len(self.items)]


def defects(sizes=((4, 5), (3, 3), (6, 2))):
    """Masks of which the second holds a defect."""
    masks = [np.zeros(size, dtype=bool) for size in sizes]
    masks[1][2, 1] = True
    return masks


STACK = np.stack(defects([(4, 5)] * 3))


@pytest.mark.parametrize(
    "y",
    [
        [1, -1, 1],
        (0, -1, 2),
        np.array([1.0, -1.0, np.nan]),
        np.array([1, -1, 1], dtype=np.int8),
        np.array([1, -1, "good"], dtype=object),
        pd.Series([1, -1, 1], index=[7, 8, 9]),
        _NotAnArray([1, -1, 1]),
    ],
)
def test_labels(y):
    assert not is_masks(y)
    assert good_images(y, 3).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "y",
    [
        STACK,
        STACK.astype(np.uint8),
        STACK.astype(float),
        STACK[..., None],
        list(STACK),
        STACK.tolist(),
        tuple(defects()),
        [mask[..., None].astype(int) for mask in defects()],
        Lazy(defects()),
        np.array([*defects(), None], dtype=object)[:3],
        _NotAnArray(STACK),
    ],
)
def test_masks(y):
    assert is_masks(y)
    good = good_images(y, 3)
    assert good.dtype == bool
    assert good.tolist() == [True, False, True]


@pytest.mark.parametrize(
    "y",
    [
        None,
        3,
        [0, 1, 2],
        [True, False, True],
        ["a", "-1", "b"],
        np.array(["-1", None, "x"], dtype=object),
        np.array([1, 255, 3], dtype=np.uint8),
        -np.ones((3, 2)),
        np.ones((3, 4), dtype=bool),
    ],
)
def test_any_other_y_marks_nothing(y):
    assert not is_masks(y)
    good = good_images(y, 3)
    assert good.dtype == bool
    assert good.tolist() == [True, True, True]


@pytest.mark.parametrize("y", [[1, -1], STACK[:2], defects()[:2], np.ones((2, 4)), ["a", "b"]])
def test_wrong_length_states_both(y):
    with pytest.raises(ValueError, match="y has 2 entries for 3 images"):
        good_images(y, 3)


@pytest.mark.parametrize("as_sequence", [False, True])
def test_masks_must_be_binary(as_sequence):
    masks = STACK * 255
    with pytest.raises(ValueError, match=r"y\[1\] is no binary mask: it holds 0, 255.*mask > 0"):
        good_images(list(masks) if as_sequence else masks, 3)


def test_masks_must_be_flat():
    with pytest.raises(ValueError, match=r"y\[0\] has the shape \(4, 5, 3\)"):
        good_images(STACK[..., None].repeat(3, axis=3), 3)


def test_shapes_of_masks():
    check_mask_shapes([1, -1, 1], STACK)
    check_mask_shapes(None, STACK)
    check_mask_shapes(STACK, STACK)
    check_mask_shapes(STACK[..., None], STACK)
    check_mask_shapes(STACK, np.zeros((3, 20)))
    check_mask_shapes(Lazy(defects()), defects())
    with pytest.raises(
        ValueError, match=r"y\[0\] has the shape \(4, 5\), but image 0 has \(5, 4\)"
    ):
        check_mask_shapes(STACK, STACK.swapaxes(1, 2))
    with pytest.raises(
        ValueError, match=r"y\[1\] has the shape \(3, 3\), but image 1 has \(4, 5\)"
    ):
        check_mask_shapes(defects(), STACK)
    with pytest.raises(ValueError, match=r"y\[0\] has the shape \(4, 5\), but image 0 has \(21,\)"):
        check_mask_shapes(STACK, np.zeros((3, 21)))


def test_rows_take_the_shapes_of_masks():
    rows = np.arange(60).reshape(3, 20)
    shaped = in_shape_of(pd.DataFrame(rows), STACK[..., None])
    assert np.array_equal(shaped, rows.reshape(3, 4, 5))
    shapes = [
        image.shape for image in in_shape_of(rows, [(np.eye(4, 5)), np.eye(10, 2), [[0] * 20]])
    ]
    assert shapes == [(4, 5), (10, 2), (1, 20)]
    assert in_shape_of(STACK, STACK) is STACK
    maps = defects()
    assert in_shape_of(maps, maps) is maps
    with pytest.raises(ValueError, match=r"y\[0\] has the shape \(4, 5\), but image 0 has \(19,\)"):
        in_shape_of(rows[:, 1:], STACK)


@pytest.mark.parametrize("as_rows", [False, True])
def test_score_of_masks_and_of_labels(as_rows):
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 4, 5), dtype=bool)
    masks[::2, 1:3, 1:3] = True
    maps = rng.random(masks.shape) + 0.3 * masks
    X = maps.reshape(8, -1) if as_rows else maps
    pixels = roc_auc_score(masks.ravel(), maps.ravel())
    assert score_maps(X, masks) == pytest.approx(pixels)
    assert score_maps(X, list(masks)) == pytest.approx(pixels)
    labels = np.where(masks.any(axis=(1, 2)), -1, 5)
    images = roc_auc_score(labels == -1, maps.max(axis=(1, 2)))
    assert score_maps(X, labels) == pytest.approx(images)
    assert score_maps(list(maps), _NotAnArray(labels)) == pytest.approx(images)


@pytest.mark.parametrize("y", [[0, 1, 2], [-1, -1, -1], None, ["a", "b", "c"]])
def test_score_of_one_class_is_nan_and_states_the_convention(y):
    with pytest.warns(UndefinedMetricWarning, match="label of -1 marks a defective image, any oth"):
        assert math.isnan(score_maps(np.ones((3, 2, 2)), y))


def test_score_of_masks_without_defects_is_nan():
    with pytest.warns(UndefinedMetricWarning, match="0 defect pixels"):
        assert math.isnan(score_maps(np.ones((3, 2, 2)), np.zeros((3, 2, 2))))


# Masks as rows, labels 0 and 1 ---------------------------------------------------------

ROWS = STACK.reshape(3, 20)


@pytest.mark.parametrize("dtype", [bool, np.uint8, float])
@pytest.mark.parametrize(
    "maps",
    [np.ones((3, 20)), np.ones((3, 4, 5)), np.ones((3, 4, 5, 3)), list(np.ones((3, 4, 5)))],
    ids=["rows", "stack", "colour", "list"],
)
def test_binary_rows_are_masks(dtype, maps):
    assert learnable(ROWS.astype(dtype), maps).tolist() == [True, False, True]
    assert learnable(pd.DataFrame(ROWS), maps).tolist() == [True, False, True]


def test_binary_rows_of_all_channels_are_masks():
    rows = np.zeros((3, 60), np.uint8)
    rows[1, 7] = 1
    masks = masks_of_rows(rows, np.ones((3, 4, 5, 3)))
    assert masks.shape == (3, 4, 5)
    assert np.argwhere(masks).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize(
    "y", [2 * ROWS.astype(int), ROWS - 0.5, ROWS[:, 1:], np.ones((3, 1)), -1 * ROWS]
)
def test_other_tables_mark_nothing(y):
    assert learnable(y, np.ones((3, 20))).tolist() == [True, True, True]


def test_score_of_masks_as_rows():
    maps = np.random.default_rng(0).random((3, 4, 5))
    expected = roc_auc_score(STACK.ravel(), maps.ravel())
    for X in (maps, maps.reshape(3, 20), list(maps)):
        assert score_maps(X, ROWS) == pytest.approx(expected)


def test_masks_as_rows_are_not_learnt_from():
    images = np.random.default_rng(0).random((4, 20, 20))
    masks = np.zeros((4, 400), bool)
    masks[2] = True
    detector = cheap(max_iter=1, smoothing=1.0, threshold=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for X in (images.reshape(4, -1), images):
            assert detector.fit(X, masks).trained_on_["n_images"] == 3
    assert 0 <= detector.score(images, masks) <= 1
    maps = np.ones((3, 4, 5))
    maps[1] = 7
    assert ResidualThresholder(strategy="max").fit(maps.reshape(3, 20), ROWS).threshold_ == 1


@pytest.mark.parametrize("y", [[0, 1, 0], [True, False, True], np.array([0.0, 1, 1])])
@pytest.mark.parametrize(
    "maps", [np.ones((3, 8, 8)), np.ones((3, 64)), ["a.png", "b.png", "c.png"]]
)
def test_zeros_and_ones_are_no_marks(y, maps):
    with pytest.warns(UserWarning, match=r"labels 0 and 1, and neither marks a defect.*-1"):
        assert learnable(y, maps).all()


@pytest.mark.parametrize(
    ("y", "shape"),
    [
        ([0, 1, 2], (3, 64)),
        ([1, 1, 1], (3, 64)),
        ([0, 0, 0], (3, 64)),
        ([1, -1, 0], (3, 64)),
        (["0", "1", "0"], (3, 64)),
        (None, (3, 64)),
        # Tables of a few features are no images; their labels are classes.
        ([0, 1, 0], (3, 10)),
    ],
)
def test_no_word_of_other_labels(y, shape):
    expected = [label != -1 for label in (y or [0] * 3)]
    assert learnable(y, np.ones(shape)).tolist() == expected
