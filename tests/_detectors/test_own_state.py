"""Whatever the user or another library has set in torch: results are the same, and it stays set."""

import pickle
import re
import warnings
from contextlib import contextmanager, nullcontext

import numpy as np
import onnxruntime
import pytest
import skops.io
import torch
from numpy.testing import assert_array_equal
from shared import EXTRACTOR, cheap, texture
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import FMAEDetector, L2AutoencoderDetector, VAEDetector, ssim_map
from sklearn_ssimae.export import to_onnx
from sklearn_ssimae.inspection import write_report
from sklearn_ssimae.model_selection import synthetic_defect_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = texture(4, 20, 24).astype(np.float32)


@contextmanager
def set_for_a_while(set_it, now, before):
    set_it(now)
    try:
        yield
    finally:
        set_it(before)


def dtype(dtype):
    return lambda: set_for_a_while(torch.set_default_dtype, dtype, torch.float32)


STATES = {
    "float64": dtype(torch.float64),
    "bfloat16": dtype(torch.bfloat16),
    "float16": dtype(torch.float16),
    "no gradients": lambda: set_for_a_while(torch.set_grad_enabled, False, True),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    # The only device besides the CPU that every machine has: it holds no values.
    "default device": lambda: set_for_a_while(torch.set_default_device, "meta", None),
    "within a device": lambda: torch.device("meta"),
    "deterministic": lambda: set_for_a_while(torch.use_deterministic_algorithms, True, False),
}


@contextmanager
def several(*names):
    """Several states at once."""
    with STATES[names[0]](), several(*names[1:]) if names[1:] else nullcontext():
        yield


TOGETHER = [
    ("float64", "no_grad", "autocast"),
    ("bfloat16", "inference_mode", "within a device"),
    ("float16", "no gradients", "default device", "deterministic"),
]


def state():
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
    )


def through_skops(detector):
    content = skops.io.dumps(detector)
    return skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))


def learn_and_score(cls):
    """What a detector says after each of its ways to learn, and after storage."""
    detector = cheap(cls, max_iter=1, stride=None)
    yield detector.fit(IMAGES).transform(IMAGES)
    yield detector.loss_curve_
    yield detector.fit_threshold(IMAGES).threshold_
    loaded = [pickle.loads(pickle.dumps(detector)), through_skops(detector)]
    for one in loaded:
        yield one.score_samples(IMAGES)
    # Nothing is learnt from kept images any more, which takes most of the time.
    plain = dict(threshold=1.0, residual="plain", smoothing=1.0, warm_start=True)
    if cls is FMAEDetector:
        plain["feature_extractor"] = EXTRACTOR  # a module is not stored
    yield loaded[0].set_params(**plain).partial_fit(IMAGES).reconstruct(IMAGES)
    yield loaded[1].set_params(**plain).fit(IMAGES).segment(IMAGES)


@pytest.fixture(scope="module")
def expected():
    """What detectors say in torch's own state, computed once."""
    known = {}

    def of(cls):
        if cls not in known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                known[cls] = list(learn_and_score(cls))
        return known[cls]

    return of


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert_array_equal(one, other)


@pytest.mark.parametrize("name", STATES)
def test_each_state(name, expected):
    wanted = expected(L2AutoencoderDetector)
    with STATES[name]():
        before = state()
        found = list(learn_and_score(L2AutoencoderDetector))
        assert state() == before
    assert_same(found, wanted)


@pytest.mark.parametrize("names", TOGETHER, ids=" and ".join)
def test_every_detector(cls, names, expected):
    wanted = expected(cls)
    with several(*names):
        before = state()
        found = list(learn_and_score(cls))
        assert state() == before
    assert_same(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("names", TOGETHER, ids=" and ".join)
def test_what_takes_a_detector(names, tmp_path):
    """Export, scorer, report and the function of SSIM."""

    detector = cheap(VAEDetector, max_iter=1, stride=None).fit(IMAGES)

    def results(folder):
        folder.mkdir()
        to_onnx(detector, folder / "maps.onnx", image_shape=(20, 24))
        session = onnxruntime.InferenceSession(folder / "maps.onnx")
        yield session.run(["maps"], {"images": IMAGES})[0]
        yield synthetic_defect_scorer()(detector, IMAGES)
        write_report(folder / "report.html", detector, IMAGES)
        # Less when it was written.
        yield re.sub(rb"<time.*?</time>", b"", (folder / "report.html").read_bytes())
        yield ssim_map(IMAGES, IMAGES[::-1])

    wanted = list(results(tmp_path / "as usual"))
    with several(*names):
        before = state()
        found = list(results(tmp_path / "set"))
        assert state() == before
    assert_same(found, wanted)


def test_fitted_in_inference_mode_and_trained_outside():
    plain = dict(max_iter=1, threshold=1.0, residual="plain", smoothing=1.0, warm_start=True)
    with torch.inference_mode():
        detector = cheap(**plain).fit(IMAGES)
        loaded = pickle.loads(pickle.dumps(detector))
    assert not any(param.is_inference() for param in detector.network_.parameters())
    expected = cheap(**plain).fit(IMAGES).fit(IMAGES).transform(IMAGES)
    for one in (detector, loaded):
        assert_array_equal(one.fit(IMAGES).transform(IMAGES), expected)
