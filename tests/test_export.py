import itertools
import json
import logging
import runpy
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import shared
import torch
from numpy.testing import assert_allclose, assert_array_equal
from shared import cheap
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline

import sklearn_ssimae
from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    ResidualThresholder,
    SSIMAutoencoderDetector,
    VAEDetector,
    export,
    ssim_map,
)
from sklearn_ssimae._maps.ssim import DEFAULT_C1, DEFAULT_C2, _traceable_ssim
from sklearn_ssimae._maps.windows import TraceableWindowMean, WindowMean, _banded
from sklearn_ssimae.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TOLERANCE = dict(atol=1e-4, rtol=0)
DETECTORS = {
    "ssim": cheap(SSIMAutoencoderDetector),
    "ssim-gaussian": cheap(
        SSIMAutoencoderDetector, window="gaussian", window_size=7, alpha=2, beta=0, gamma=0.5
    ),
    "l2": cheap(),
    "vae": cheap(VAEDetector, n_latent_samples=3),
    "fmae": cheap(FMAEDetector),
}
SMALLER_THAN_A_PATCH = (9, 29)
LARGER = (31, 42)


def texture(n, height, width, *channels, low=-20.0, high=230.0):
    """Cuts (n, h, w[, c]) out of a real texture, float32 in [low, high]."""
    return (low + (high - low) * shared.texture(n, height, width, *channels)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    """Detectors by name and number of channels, whose network answers strongly to its input."""
    detectors = {}
    for (name, detector), n_channels in itertools.product(DETECTORS.items(), (1, 3)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            images = texture(4, 20, 20, n_channels)
            detector = clone(detector).fit(images)
        with torch.no_grad():
            if name == "vae":
                # The draws from the latent distribution differ, and so do the variances.
                detector.network_.encoder[-1].bias[8:] = 0
                detector.network_.decoder[-1].weight[:, n_channels:] = 0.01
            detector.network_.decoder[-1].weight *= 50 / detector.reconstruct(images).std()
        detectors[name, n_channels] = detector
    return detectors


def with_options(detector, **options):
    """A copy with other parameters of scoring, and the same network."""
    other = clone(detector).set_params(**options)
    other.__dict__.update({k: v for k, v in vars(detector).items() if k not in other.__dict__})
    return other


# What the traced module computes ------------------------------------------------------


def traceable_maps(detector, images):
    return export._ResidualMaps(detector, images.shape[1:])(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("size", [SMALLER_THAN_A_PATCH, LARGER], ids=["small", "large"])
@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("name", DETECTORS)
def test_traced_operations_give_the_maps_of_transform(fitted, name, n_channels, scale, size):
    images = texture(2, *size, n_channels)
    # An opening follows, whatever has been averaged.
    for aggregate, diameter in (("reconstruction", None), ("reconstruction", 4), ("residual", 5)):
        detector = with_options(
            fitted[name, n_channels], scale=scale, aggregate=aggregate, opening_diameter=diameter
        )
        expected = detector.transform(images)
        assert expected.std() > 10 * TOLERANCE["atol"]
        assert_allclose(traceable_maps(detector, images), expected, **TOLERANCE)


@pytest.mark.parametrize(
    "options",
    [
        dict(scale=1.7),
        dict(scale=0.02),
        dict(stride=1),
        dict(stride=50),
        dict(stride=11),
        dict(opening_diameter=1),
        dict(opening_diameter=2),
        dict(opening_diameter=13),
        dict(smoothing=0),
        dict(smoothing=0.3),
        dict(smoothing=50.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["ssim", "vae"])
def test_traced_operations_at_the_ends_of_the_parameters(fitted, name, options):
    images = texture(2, *LARGER, 1)
    detector = with_options(fitted[name, 1], **options)
    expected = detector.transform(images)
    assert_allclose(traceable_maps(detector, images), expected, **TOLERANCE)


def test_a_blurred_map_is_traced(fitted):
    images = texture(2, *LARGER, 1)
    detector = with_options(fitted["ssim", 1], map_blur=1.5, map_window_size=5)
    expected = detector.transform(images)
    assert np.abs(expected - fitted["ssim", 1].transform(images)).max() > 0.01
    assert_allclose(traceable_maps(detector, images), expected, **TOLERANCE)


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
def test_traceable_ssim_is_that_of_scoring(window):
    # Sides of several blocks of the window's matrices.
    x, y = torch.from_numpy(texture(4, 130, 90, low=0, high=1).reshape(2, 2, 130, 90)).double()
    mean = TraceableWindowMean(7, window, 1.5)
    assert_allclose(mean(x), WindowMean(7, window, 1.5)(x), atol=1e-14)
    expected = ssim_map(x, y, window_size=7, window=window)
    assert_allclose(_traceable_ssim(x, y, mean, DEFAULT_C1, DEFAULT_C2), expected, atol=1e-12)


def test_traceable_ssim_has_a_gradient():
    # torch.compile of a training loop takes it.
    x, y = torch.from_numpy(texture(2, 13, 11, low=0, high=1)).double().requires_grad_()
    mean = TraceableWindowMean(5, "uniform", 1.5)
    assert torch.autograd.gradcheck(lambda x, y: _traceable_ssim(x, y, mean, 1e-2, 3e-2), (x, y))


def test_network_takes_patches_in_strips(fitted, monkeypatch):
    images = texture(2, *LARGER, 1)
    detector = fitted["ssim", 1]
    module = export._ResidualMaps(detector, images.shape[1:])
    shapes = []
    module.network.register_forward_hook(lambda _, args, __: shapes.append(len(args[0])))
    # 4 rows of 6 patches in each of the two images
    for most, expected in ((256, [48]), (17, [24, 24]), (6, [12] * 4), (1, [12] * 4)):
        shapes.clear()
        monkeypatch.setattr(export, "_MAX_PATCHES", most)
        maps = module(torch.from_numpy(images)).numpy()
        assert shapes == expected
        assert_allclose(maps, detector.transform(images), **TOLERANCE)


def test_bfloat16_is_exported_as_float32(fitted):
    images = texture(2, *LARGER, 1)
    detector = with_options(fitted["l2", 1], precision="bfloat16")
    assert_allclose(
        traceable_maps(detector, images),
        with_options(detector, precision="float32").transform(images),
        **TOLERANCE,
    )
    assert detector.precision == "bfloat16"


def test_integers_are_scored_as_float32_in_their_own_units():
    images = texture(3, *LARGER, low=0, high=65535).astype(np.uint16)
    detector = cheap().fit(images)
    maps = traceable_maps(detector, images.astype(np.float32))
    assert_allclose(maps, detector.transform(images), **TOLERANCE)


# The file -----------------------------------------------------------------------------

# Every detector, and each value of an option with nearly every one of the others: a file takes
# seconds, so all but the first are slow.
FILES = [
    # name, channels, scale, aggregate, opening_diameter, size
    ("ssim", None, 1, "reconstruction", 4, LARGER),
    ("ssim", 3, 0.5, "residual", 5, SMALLER_THAN_A_PATCH),
    ("ssim-gaussian", 1, 0.5, "residual", None, LARGER),
    ("l2", 3, 0.5, "reconstruction", 4, LARGER),
    ("vae", 3, 1, "residual", 4, LARGER),
    ("vae", None, 0.5, "reconstruction", None, SMALLER_THAN_A_PATCH),
    ("fmae", 3, 1, "reconstruction", 5, SMALLER_THAN_A_PATCH),
]


@pytest.mark.parametrize(
    ("name", "n_channels", "scale", "aggregate", "diameter", "size"),
    [FILES[0], *(pytest.param(*file, marks=pytest.mark.slow) for file in FILES[1:])],
    ids=map(str, FILES),
)
def test_file(fitted, tmp_path, name, n_channels, scale, aggregate, diameter, size):
    detector = with_options(
        fitted[name, n_channels or 1],
        scale=scale,
        aggregate=aggregate,
        opening_diameter=diameter,
    )
    images = texture(3, *size, *[n_channels] * (n_channels is not None))
    image_shape, path = images.shape[1:], tmp_path / "detector.onnx"
    expected = detector.transform(images)
    assert expected.std() > 10 * TOLERANCE["atol"]
    with all_else_left_alone(detector):
        to_onnx(detector, path, image_shape)
    assert_array_equal(detector.transform(images), expected)

    check_model(onnx.load(path), image_shape)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    check_metadata(session.get_modelmeta().custom_metadata_map, detector, image_shape)
    for batch in (slice(1), slice(3), slice(0)):
        (maps,) = session.run(["maps"], {"images": images[batch]})
        assert maps.dtype == np.float32
        assert_allclose(maps, expected[batch], **TOLERANCE)


@contextmanager
def all_else_left_alone(detector):
    # The tracer must not leave its own tensors in the cache of the window's matrices.
    _banded.cache_clear()
    parameters = detector.get_params()
    level, filters = logging.getLogger("torch.onnx").level, list(warnings.filters)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert detector.get_params() == parameters
    assert all(weights.requires_grad for weights in detector.network_.parameters())
    assert logging.getLogger("torch.onnx").level == level
    assert warnings.filters == filters
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(np.random.get_state()[1], numpy_state)


def check_model(model, image_shape):
    onnx.checker.check_model(model, full_check=True)
    (images,), (maps,) = model.graph.input, model.graph.output
    for value, name, shape in ((images, "images", image_shape), (maps, "maps", image_shape[:2])):
        first, *others = value.type.tensor_type.shape.dim
        assert value.name == name
        assert first.dim_param == "n"
        assert tuple(side.dim_value for side in others) == shape
    # No names of files on the machine that wrote it.
    assert str(Path(sklearn_ssimae.__file__).parent).encode() not in model.SerializeToString()


def check_metadata(metadata, detector, image_shape):
    assert float(metadata["threshold"]) == detector.threshold_
    assert metadata["detector"] == type(detector).__name__
    assert metadata["sklearn_ssimae_version"] == sklearn_ssimae.__version__
    assert tuple(json.loads(metadata["data_range"])) == detector.data_range_
    assert tuple(json.loads(metadata["image_shape"])) == image_shape
    assert len(metadata) == 5


# Errors -------------------------------------------------------------------------------


def test_unfitted_detector():
    with pytest.raises(NotFittedError, match="L2AutoencoderDetector instance is not fitted"):
        to_onnx(L2AutoencoderDetector(), "detector.onnx", (32, 32))


def test_other_estimators(fitted):
    pipeline = make_pipeline(fitted["l2", 1], ResidualThresholder())
    with pytest.raises(TypeError, match=r"must be a detector .* got Pipeline\. Of a pipeline"):
        to_onnx(pipeline, "detector.onnx", (32, 32))


@pytest.mark.parametrize(
    "image_shape", [32, None, (), (32,), (32, 0), (32, -1, 3), (32.0, 32), (2, 32, 32, 3), "hw"]
)
def test_shapes_that_are_none(fitted, image_shape):
    with pytest.raises(ValueError, match=r"image_shape must be \(h, w\) or \(h, w, c\), got"):
        to_onnx(fitted["l2", 1], "detector.onnx", image_shape)


@pytest.mark.parametrize(
    ("n_channels", "image_shape", "message"),
    [
        (1, (32, 32, 3), r"image_shape=\(32, 32, 3\) has 3 channels, .* images of 1\."),
        (3, (32, 32), r"image_shape=\(32, 32\) has 1 channels, .* images of 3\."),
    ],
)
def test_other_number_of_channels(fitted, n_channels, image_shape, message):
    with pytest.raises(ValueError, match=message):
        to_onnx(fitted["l2", n_channels], "detector.onnx", image_shape)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_packages(fitted, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{package}.*pip install onnx .*-e "\.\[onnx\]"'):
        to_onnx(fitted["l2", 1], "detector.onnx", (32, 32))


def test_missing_folder(fitted, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "_trace", lambda module, shape: onnx.ModelProto())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        to_onnx(fitted["l2", 1], tmp_path / "nowhere" / "detector.onnx", (32, 32))


# The example --------------------------------------------------------------------------

EXAMPLE = Path(__file__).parents[1] / "examples" / "score_with_onnxruntime.py"


@pytest.mark.slow
def test_example_scores_with_onnxruntime_and_numpy_alone(tmp_path, monkeypatch, capsys):
    path = tmp_path / "detector.onnx"
    example = runpy.run_path(str(EXAMPLE))
    assert example["main"](path, n_good=4, n_patches=16, max_iter=1) <= TOLERANCE["atol"]
    assert "stain" in capsys.readouterr().out
    for package in ("torch", "sklearn", "sklearn_ssimae", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
    line = runpy.run_path(str(EXAMPLE))["LineDetector"](path)
    images = np.zeros((2, 96, 112), np.uint8)
    assert np.isfinite(line.transform(images)).all()
    assert line.predict(images).shape == (2,)
