"""Pixels that do not count: outside the region, transparent, marked by y."""

import pickle

import numpy as np
import onnxruntime
import pytest
import skops.io
from PIL import Image
from shared import cheap, texture

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector
from sklearn_ssimae.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GOOD = texture(4, 40, 48)
REGION = np.zeros((40, 48), dtype=bool)
REGION[4:40, 12:48] = True
TABLE = np.random.default_rng(0).random((4, 40, 48))


def with_table(images):
    """The same inside the region, and something else outside, in every image."""
    return np.where(REGION, images, TABLE[: len(images)])


def test_what_lies_outside_has_no_influence(cls):
    one, other = (cheap(cls, region=REGION).fit(X) for X in (GOOD, with_table(GOOD)))
    assert one.threshold_ == other.threshold_
    maps = one.transform(GOOD)
    np.testing.assert_array_equal(maps, other.transform(GOOD))
    np.testing.assert_array_equal(maps, one.transform(with_table(GOOD)))
    inside_least = maps[:, REGION].min(axis=1)
    outside = np.broadcast_to(maps[:, ~REGION].T, ((~REGION).sum(), len(GOOD)))
    # 0, or of logarithms, which are negative at times, the least inside.
    least = inside_least if one._make_comparison().gives_logarithms else np.zeros(len(GOOD))
    np.testing.assert_array_equal(outside, np.broadcast_to(least, outside.shape))
    assert not one.segment(GOOD)[:, ~REGION].any()


def test_a_defect_counts_inside_alone():
    detector = cheap(SSIMAutoencoderDetector, region=REGION).fit(GOOD)
    X = GOOD[:2].copy()
    X[0, :3], X[1, 20:32, 20:32] = 1, 1
    scores = detector.score_samples(np.concatenate([GOOD[:2], X]))
    assert scores[2] == scores[0]
    assert scores[3] < scores[1]


@pytest.mark.parametrize("how", ["path", "numbers"])
def test_a_region_is_an_array_or_the_path_of_a_mask_image(tmp_path, how):
    path = tmp_path / "region.png"
    Image.fromarray(REGION.astype(np.uint8) * 255).save(path)
    given = {"path": path, "numbers": REGION.astype(int).tolist()}[how]
    detector = cheap(region=given).fit(GOOD)
    np.testing.assert_array_equal(detector.region_, REGION)
    assert detector.threshold_ == cheap(region=REGION).fit(GOOD).threshold_


def test_transparent_pixels_do_not_count(tmp_path):
    opaque = np.where(REGION, 255, 0).astype(np.uint8)
    paths = []
    for index, image in enumerate(GOOD):
        pixels = np.stack([(image * 255).astype(np.uint8), opaque], axis=-1)
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels, "LA").save(paths[-1])
    by_alpha = cheap().fit(paths)
    by_region = cheap(region=REGION).fit([(image * 255).astype(np.uint8) for image in GOOD])
    assert by_alpha.threshold_ == by_region.threshold_
    for one, other in zip(by_alpha.transform(paths), by_region.transform(paths), strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one[~REGION] == 0).all()


@pytest.mark.parametrize("container", [np.asarray, list])
def test_of_a_defective_image_the_rest_is_learnt(container):
    masks = np.zeros(GOOD.shape, dtype=bool)
    masks[0, 8:16, 10:20] = True
    masks[1] = True
    spoilt = np.where(masks, TABLE, GOOD)
    one, other = (cheap().fit(container(X), container(masks)) for X in (GOOD, spoilt))
    assert one.trained_on_["n_images"] == 3
    np.testing.assert_array_equal(one.transform(GOOD), other.transform(GOOD))
    by_label = cheap().fit(GOOD, [-1, -1, 1, 1])
    assert by_label.trained_on_["n_images"] == 2
    assert (by_label.transform(GOOD) != one.transform(GOOD)).any()


def test_the_threshold_is_learnt_from_the_rest_too():
    detector = cheap().fit(GOOD)
    masks = np.zeros(GOOD.shape, dtype=bool)
    masks[:, 8:20, 10:22] = True
    spoilt = np.where(masks, TABLE, GOOD)
    by_rest, by_all, by_spoilt = (
        float(detector.fit_threshold(X, y).threshold_)
        for X, y in ((spoilt, masks), (GOOD, masks), (spoilt, None))
    )
    assert by_rest == by_all != by_spoilt


@pytest.mark.slow
def test_stored_detectors_and_the_exported_graph_have_the_region(tmp_path, cls):
    detector = cheap(cls, region=REGION).fit(GOOD)
    X = with_table(GOOD).astype(np.float32)
    maps = detector.transform(X)
    trusted = [f"sklearn_ssimae.{cls.__name__}"]
    stored = [pickle.loads(pickle.dumps(detector))]
    if cls.__name__ != "FMAEDetector":  # a module as extractor is no parameter that skops stores
        stored.append(skops.io.loads(skops.io.dumps(detector), trusted=trusted))
    for again in stored:
        np.testing.assert_array_equal(again.transform(X), maps)
    to_onnx(detector, tmp_path / "detector.onnx", (40, 48))
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    np.testing.assert_allclose(session.run(["maps"], {"images": X})[0], maps, rtol=2e-3, atol=2e-3)
    with pytest.raises(ValueError, match=r"region has the shape \(40, 48\), and image_shape"):
        to_onnx(detector, tmp_path / "other.onnx", (48, 48))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_region_is_scaled_with_its_images(scale):
    detector = cheap(region=REGION, scale=scale, residual="plain").fit(GOOD)
    maps = detector.transform(GOOD)
    assert (maps[:, ~REGION] == 0).all()
    assert (maps[:, REGION] > 0).mean() > 0.8


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (np.zeros((40, 48)), "region is 0 everywhere"),
        (np.arange(4).reshape(2, 2), "must hold 0 where pixels do not count and one other value"),
        (-np.eye(3), "must hold 0 where"),
        (np.ones((2, 2, 3)), r"must be an array \(h, w\) or the path of a mask image"),
        (np.ones((8, 8)), r"region has the shape \(8, 8\), and image 0 has \(40, 48\)"),
    ],
)
def test_what_is_no_region_is_refused(region, message):
    with pytest.raises(ValueError, match=message):
        cheap(region=region).fit(GOOD)


def test_a_mask_of_another_size_is_refused_though_it_is_read_late(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, GOOD, strict=False):
        Image.fromarray((image * 255).astype(np.uint8)).save(path)
    masks = [np.eye(10, dtype=bool)] * 3
    with pytest.raises(ValueError, match=r"\(10, 10\)"):
        cheap(L2AutoencoderDetector).fit(paths, masks)
