"""The contract that every detector keeps."""

import copy
import math
import pickle
import random
import warnings

import joblib
import numpy as np
import pytest
import torch
from scipy import signal
from shared import DETECTORS, cheap, texture
from skimage import data, io
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    SSIMAutoencoderDetector,
    VAEDetector,
)
from sklearn_ssimae._maps.filters import grey_opening

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fitted_by_class():
    images = texture(6, 30, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return {cls: cheap(cls).fit(images) for cls in DETECTORS}


@pytest.fixture
def fitted(cls, fitted_by_class):
    return fitted_by_class[cls]


SHAPES = [(5, 24, 20), (5, 24, 20, 3), (5, 24, 20, 1), (5, 7, 9)]
DTYPES = ["float64", "float32", "uint8", "uint16"]


@pytest.mark.parametrize("shape", range(4))
@pytest.mark.parametrize("dtype", range(4))
def test_shapes_and_dtypes_of_stacks(shape, dtype):
    """Every pair of a shape, a dtype and a class, once."""
    cls, shape, dtype = DETECTORS[(shape + dtype) % 4], SHAPES[shape], DTYPES[dtype]
    X = texture(*shape)
    if dtype.startswith("uint"):
        X = X * np.iinfo(dtype).max
    X = X.astype(dtype)
    detector = cheap(cls).fit(X)
    maps, rec = detector.transform(X), detector.reconstruct(X)
    out_dtype = np.float64 if dtype == "float64" else np.float32
    assert maps.shape == shape[:3] and maps.dtype == out_dtype
    assert rec.shape == shape and rec.dtype == out_dtype
    assert detector.segment(X).shape == shape[:3] and detector.segment(X).dtype == bool
    assert detector.image_shape_ == shape[1:]
    assert detector.n_features_in_ == np.prod(shape[1:])
    low, high = detector.data_range_
    assert (low, high) == {"uint8": (0, 255), "uint16": (0, 65535)}.get(dtype, (0, 1))
    # Reconstructions are in the input's units: nearer to the image's mean than to 0 or high.
    assert abs(rec.mean() - X.mean()) < 0.25 * (high - low)


@pytest.mark.parametrize(
    "cls, n_features, image_shape, expected",
    [
        (SSIMAutoencoderDetector, 64, None, (8, 8)),
        (L2AutoencoderDetector, 7, None, (1, 7)),
        (VAEDetector, 60, (6, 10), (6, 10)),
        (FMAEDetector, 60, (5, 4, 3), (5, 4, 3)),
    ],
)
def test_rows(cls, n_features, image_shape, expected):
    rows = np.random.default_rng(0).random((5, n_features))
    detector = cheap(cls, image_shape=image_shape).fit(rows)
    assert detector.image_shape_ == expected
    assert detector.transform(rows).shape == (5, expected[0] * expected[1])
    assert detector.reconstruct(rows).shape == rows.shape
    images = rows.reshape(5, *expected)
    same = cheap(cls).fit(images)
    np.testing.assert_array_equal(same.transform(images).reshape(5, -1), detector.transform(rows))


def test_rows_are_images_of_the_shape_that_is_given(cls):
    images = texture(2, 30, 40)
    rows = images.reshape(2, -1)
    of_images = cheap(cls).fit(images)
    of_rows = cheap(cls, image_shape=(30, 40)).fit(rows)
    expected = of_images.transform(images).reshape(2, -1)
    np.testing.assert_array_equal(of_rows.transform(rows), expected)


def test_sequences_of_several_sizes(cls):
    images = [texture(1, *size)[0] for size in [(30, 40), (16, 16), (9, 50), (5, 3), (1, 1)]]
    detector = cheap(cls).fit(images)
    assert detector.image_shape_ is None
    for results in (detector.transform(images), detector.segment(images)):
        assert [result.shape for result in results] == [image.shape for image in images]
    assert [rec.shape for rec in detector.reconstruct(images)] == [i.shape for i in images]
    assert detector.score_samples(images).shape == (5,)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_paths_equal_arrays(cls, tmp_path, channels):
    images = [(255 * i).astype(np.uint8) for i in texture(3, 30, 20, *channels)]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        io.imsave(path, image, check_contrast=False)
    from_arrays, from_paths = cheap(cls).fit(images), cheap(cls).fit(paths)
    for expected, given in zip(
        from_arrays.transform(images), from_paths.transform([str(p) for p in paths]), strict=True
    ):
        np.testing.assert_array_equal(given, expected)
    assert [r.shape for r in from_paths.reconstruct(paths)] == [i.shape for i in images]


def test_images_of_another_size_than_in_fit(fitted):
    assert fitted.transform(texture(2, 33, 17)).shape == (2, 33, 17)


def test_one_map_gives_masks_scores_and_labels(cls):
    X = texture(12, 20, 20)
    detector = cheap(cls, contamination=0.25).fit(X)
    maps, masks = detector.transform(X), detector.segment(X)
    scores = detector.score_samples(X)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, -maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(detector.decision_function(X), scores - detector.offset_)
    np.testing.assert_array_equal(masks, maps > detector.threshold_)
    np.testing.assert_array_equal(detector.predict(X) == -1, masks.any(axis=(1, 2)))
    assert (detector.predict(X) == -1).sum() == 3
    assert detector.offset_ == -detector.threshold_


def test_float32_scores_and_masks_agree_at_the_threshold(fitted):
    X = texture(4, 30, 40).astype(np.float32)
    detector = clone(fitted).set_params(threshold=float(fitted.transform(X).max())).fit(X)
    assert detector.threshold_ == detector.threshold
    np.testing.assert_array_equal(detector.predict(X) == -1, detector.segment(X).any(axis=(1, 2)))


@pytest.mark.parametrize("aggregate", ["reconstruction", "residual"])
def test_an_image_scores_the_same_alone_and_in_any_company(fitted, aggregate):
    fitted = copy.copy(fitted).set_params(aggregate=aggregate)
    X = texture(7, 30, 40)
    maps = fitted.transform(X)
    for i in range(7):
        np.testing.assert_array_equal(fitted.transform(X[i : i + 1])[0], maps[i])
    np.testing.assert_array_equal(fitted.transform(X[::-1]), maps[::-1])
    mixed = fitted.transform([X[0], X[3][:11, :13], X[5]])
    np.testing.assert_array_equal(mixed[0], maps[0])
    np.testing.assert_array_equal(mixed[2], maps[5])


def test_random_state_repeats_the_model_bit_for_bit(cls):
    X = texture(4, 20, 20)
    first, second, other = (cheap(cls, random_state=seed).fit(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.transform(X), second.transform(X))
    assert first.loss_curve_ == second.loss_curve_
    assert first.threshold_ == second.threshold_
    assert np.abs(first.transform(X) - other.transform(X)).max() > 0


def test_global_state_is_left_alone(cls):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)

    def state():
        return (
            torch.random.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
        )

    before = state()
    X = texture(3, 20, 20)
    cheap(cls).fit(X).predict(X)
    assert state() == before


def test_persistence(fitted, tmp_path):
    X = texture(2, 30, 40)
    file = tmp_path / "detector.joblib"
    joblib.dump(fitted, file)
    loaded = joblib.load(file)
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    assert loaded.threshold_ == fitted.threshold_
    weights = sum(t.nbytes for t in fitted.network_.state_dict().values())
    assert file.stat().st_size < 1.1 * weights + 10_000
    again = pickle.loads(pickle.dumps(loaded.set_params(latent_dim=3)))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_y_marks_images_that_are_not_learnt_from(cls):
    good = texture(6, 20, 20)
    X = good.copy()
    X[[1, 4], 5:15, 5:15] = 0
    masks = np.zeros(X.shape, bool)
    masks[[1, 4], 5:15, 5:15] = True
    labels = np.where(masks.any(axis=(1, 2)), -1, 1)
    expected = cheap(cls).fit([good[i] for i in (0, 2, 3, 5)])
    whole = np.broadcast_to(masks.any(axis=(1, 2), keepdims=True), X.shape)
    for images, y in ((X, labels), (X, whole), (list(X), list(whole))):
        marked = cheap(cls).fit(images, y)
        np.testing.assert_array_equal(marked.transform(good), expected.transform(good))
        assert marked.threshold_ == expected.threshold_
    unmarked = cheap(cls).fit(X)
    assert np.abs(unmarked.transform(good) - expected.transform(good)).max() > 0


def test_any_other_y_is_ignored(cls):
    X = texture(4, 16, 16)
    expected = cheap(cls).fit(X).transform(X)
    for y in (np.zeros(4), np.arange(4), np.array(list("abcd")), None):
        np.testing.assert_array_equal(cheap(cls).fit(X, y).transform(X), expected)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 200.0, -3.0])
def test_flat_images(cls, value):
    X = np.full((3, 20, 40), value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = cheap(cls).fit(X)
        maps = detector.transform(X)
    assert np.isfinite(maps).all() and np.isfinite(detector.loss_curve_).all()
    assert np.isfinite(detector.reconstruct(X)).all()
    assert np.isfinite(detector.threshold_)


def test_scale(cls):
    X = texture(3, 40, 31)
    detector = cheap(cls, scale=0.5).fit(X)
    assert detector.transform(X).shape == X.shape
    assert detector.reconstruct(X).shape == X.shape
    assert detector.transform(texture(1, 1, 1)).shape == (1, 1, 1)


@pytest.mark.parametrize("cls_", [SSIMAutoencoderDetector, L2AutoencoderDetector])
def test_aggregate(cls_):
    """Against patches cut, reconstructed and averaged one at a time, with Hann weights."""
    X = texture(1, 21, 27)
    detector = cheap(cls_, residual="plain", opening_diameter=None, smoothing=0, stride=5).fit(X)
    constants = detector._constants(detector._calibration.settings.constants)
    image = X[0].astype(np.float32)
    rec, res, count = np.zeros((3, 21, 27))
    weights = np.outer(*(np.hanning(33)[1::2],) * 2)
    for y in (0, 5):
        for x in (0, 5, 10, 11):
            window = (slice(y, y + 16), slice(x, x + 16))
            patch = torch.from_numpy(image[window])[None, None]
            with torch.no_grad():
                out = detector.network_(patch)
                residual = detector._residual(patch, out, **constants)
            rec[window] += weights * out[0, 0].numpy()
            res[window] += weights * residual[0].numpy()
            count[window] += weights
    np.testing.assert_allclose(detector.reconstruct(X)[0], rec / count, atol=1e-5)
    averaged = torch.from_numpy((rec / count).astype(np.float32))[None, None]
    pair = torch.from_numpy(image)[None, None], averaged
    expected = detector._residual(*pair, **constants)[0]
    np.testing.assert_allclose(detector.transform(X)[0], expected, atol=1e-4)
    detector.set_params(aggregate="residual")
    np.testing.assert_allclose(detector.transform(X)[0], res / count, atol=1e-4)


@pytest.mark.parametrize("size", [(21, 27), (1, 40), (3, 3), (70, 150)])
@pytest.mark.parametrize("smoothing", [0.5, 1.0, 10.0])
# Squares, and logarithms of either sign.
@pytest.mark.parametrize("cls", [L2AutoencoderDetector, VAEDetector])
def test_maps_are_smoothed_before_they_are_opened(fitted, smoothing, size):
    """Against a sum over all pixels, mirrored at the border."""
    X = texture(1, *size)
    detector = copy.copy(fitted).set_params(residual="plain", opening_diameter=None, smoothing=0)
    raw = detector.transform(X)[0].astype(float)
    offsets = np.arange(-math.ceil(5 * smoothing), math.ceil(5 * smoothing) + 1)
    kernel = np.exp(-0.5 * np.add.outer(offsets**2, offsets**2) / smoothing**2)
    expected = signal.convolve2d(np.pad(raw, offsets[-1], mode="symmetric"), kernel, mode="valid")
    smooth = detector.set_params(smoothing=smoothing).transform(X)[0]
    np.testing.assert_allclose(smooth, expected / kernel.sum(), atol=1e-3 * np.ptp(raw) + 1e-6)
    opened = detector.set_params(opening_diameter=4).transform(X)[0]
    np.testing.assert_array_equal(opened, grey_opening(torch.from_numpy(smooth), 4))


def test_augment_makes_the_turned_texture_familiar():
    """Stripes from left to right are learnt from stripes from top to bottom, if turned."""
    stripes = np.sin(np.arange(40) * 0.8)[None, :, None] * np.ones((2, 40, 40)) / 2 + 0.5
    errors = {}
    for augment in (False, True):
        detector = cheap(
            L2AutoencoderDetector, augment=augment, n_patches=400, max_iter=4, threshold=1.0
        ).fit(stripes)
        errors[augment] = detector.transform(stripes.swapaxes(1, 2)).mean()
    assert errors[True] < 0.5 * errors[False]


def test_a_stride_beyond_the_patch_leaves_no_gap(fitted):
    detector = pickle.loads(pickle.dumps(fitted)).set_params(stride=100)
    assert np.isfinite(detector.transform(texture(1, 50, 50))).all()


def test_better_than_the_mean_image(cls):
    """A short fit on a real texture leaves the mean image behind."""
    brick = data.brick()[:, :256] / 255
    detector = cheap(
        cls,
        patch_size=32,
        latent_dim=32,
        n_patches=600,
        max_iter=2,
        scale=0.5,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        detector.fit(brick[None, :256])
    rest = brick[None, 256:]
    assert ((detector.reconstruct(rest) - rest) ** 2).mean() < 0.6 * rest.var()


def test_a_fit_that_ends_at_the_mean_image_says_so(cls):
    noise = np.random.default_rng(0).random((4, 32, 32))
    with pytest.warns(ConvergenceWarning, match="mean image.*max_iter"):
        cheap(cls, latent_dim=1).fit(noise)


def test_divergence_keeps_the_last_good_network(cls):
    X = texture(4, 20, 20)
    with pytest.warns(ConvergenceWarning, match="Lower learning_rate_init"):
        detector = cheap(cls, learning_rate_init=1e25, learning_rate="constant").fit(X)
    assert np.isfinite(detector.transform(X)).all()


def test_data_outside_the_range_of_fit_is_reported(fitted):
    with pytest.raises(ValueError, match=r"image 0.*\[.*255\].*fitted on \[0, 1\]"):
        fitted.predict(np.full((2, 30, 40), 255.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(1.3 * texture(2, 30, 40))


BAD_INPUT = {
    "nan": (np.full((2, 20, 20), np.nan), ValueError, "NaN"),
    "inf": (np.full((2, 20, 20), np.inf), ValueError, "infinity"),
    "nan in a sequence": ([np.ones((9, 9)), np.full((9, 9), np.nan)], ValueError, "image 1.*NaN"),
    "empty array": (np.empty((0, 20, 20)), ValueError, "0 sample"),
    "empty list": ([], ValueError, "X is an empty list. Give one image or more"),
    "five axes": (np.zeros((2, 3, 4, 5, 6)), ValueError, "5 dimensions"),
    "one axis": (np.zeros(20), ValueError, "1D array"),
    "text": (np.array([["a", "b"]]), ValueError, "holds text"),
    "missing file": (["no/such/file.png"], OSError, "no/such/file.png"),
    "no pixels": (np.empty((2, 0, 5)), ValueError, "0 feature"),
    "one path": ("no/such/file.png", ValueError, "list of paths"),
    "channels": ([np.zeros((9, 9)), np.zeros((9, 9, 3))], ValueError, "image 1 .*3 channels"),
    "axes of an item": ([np.zeros((9, 9)), np.zeros(9)], ValueError, r"image 1 .*\(9,\)"),
    "complex": (np.zeros((2, 9, 9), complex), ValueError, "[Cc]omplex"),
}


@pytest.mark.parametrize("X, error, message", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(X, error, message):
    for cls in DETECTORS:
        with pytest.raises(error, match=message):
            cheap(cls, n_patches=500).fit(X)


BAD_PARAMS = {
    "patch_size": (24, "multiple of 16.*24"),
    "latent_dim": (0, "latent_dim"),
    "n_patches": (0, "n_patches"),
    "stride": (0, "stride"),
    "device": ("cuda:9", "cuda:9.*auto"),
    "image_shape": ((5, 5), "400 features.*25"),
    "data_range": ((1, 0), "low < high"),
    "contamination": (0.6, "contamination"),
    "learning_rate": ("invscaling", "learning_rate"),
}


@pytest.mark.parametrize("name, value, message", [(k, *v) for k, v in BAD_PARAMS.items()])
def test_bad_parameters(name, value, message):
    X = texture(2, 20, 20).reshape(2, -1)
    for cls in DETECTORS:
        with pytest.raises(ValueError, match=message):
            cheap(cls, **{name: value}).fit(X)


@pytest.mark.parametrize("window_size", [8, 17])
def test_window_that_does_not_fit(window_size):
    with pytest.raises(ValueError, match=f"odd and at most patch_size=16.*{window_size}"):
        cheap(SSIMAutoencoderDetector, window_size=window_size).fit(texture(2, 20, 20))


def test_bad_input_after_fit(fitted, tmp_path):
    with pytest.raises(ValueError, match=r"X is one image, shape \(2, 100\)"):
        fitted.predict(np.zeros((2, 100)))
    with pytest.raises(ValueError, match=r"image 0 has 3 channels.* of 1"):
        fitted.predict(np.zeros((2, 20, 20, 3)))
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(OSError, match=r"notes\.png is not a readable image"):
        fitted.predict([tmp_path / "notes.png"])


def test_not_fitted(cls):
    for method in ("transform", "segment", "reconstruct", "score_samples", "predict"):
        with pytest.raises(NotFittedError):
            getattr(cheap(cls), method)(texture(1, 20, 20))


def test_trained_on():
    """Of the good images of the last fit, those that nothing is learnt from left out."""
    X = texture(23, 20, 24)
    detector = cheap().fit(X, np.repeat([-1, 1], [3, 20]))
    expected = {"n_images": 20, "n_kept": 2, "first_shape": (20, 24, 1)}
    assert detector.trained_on_ == expected
    detector.partial_fit(list(X[:2, :16]))
    assert detector.trained_on_ == {"n_images": 2, "n_kept": 1, "first_shape": (16, 24, 1)}
    with pytest.raises(ValueError, match="validation_fraction"):
        detector.set_params(validation_fraction=0.9).fit(X[:2])
    assert detector.trained_on_["n_images"] == 2
    large = texture(1, 20, 80, 3)
    detector = cheap().fit(large)
    assert detector.trained_on_ == {"n_images": 1, "n_kept": 1, "first_shape": (20, 80, 3)}


def test_warm_start_continues(cls):
    X = texture(4, 20, 20)
    detector = cheap(cls, warm_start=True, n_patches=200).fit(X)
    first = detector.loss_curve_[0]
    detector.fit(X)
    assert detector.n_iter_ == len(detector.loss_curve_) == 4
    assert detector.loss_curve_[3] < first
    fresh = clone(detector).fit(X)
    assert fresh.loss_curve_[0] == first


def test_partial_fit_continues(cls):
    X = texture(4, 20, 20)
    detector = cheap(cls, n_patches=200)
    for _ in range(3):
        detector.partial_fit(X)
    assert detector.n_iter_ == 3
    assert detector.loss_curve_[2] < detector.loss_curve_[0]
    detector.fit(X)
    assert detector.n_iter_ == 2


def test_verbose(cls, capsys):
    cheap(cls, verbose=1).fit(texture(2, 20, 20))
    *lines, material, choice, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert material.startswith("material: ")
    assert choice.startswith("map: smoothing ")
    assert "8 kinds of drawn defects" in choice
    assert last.startswith("threshold ")
    assert lines[0].startswith("epoch 1/2, loss ")
