"""One detector used from many threads and processes at once."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from joblib import Parallel, delayed
from shared import DETECTORS, cheap
from skimage import data
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import SSIMAutoencoderDetector

METHODS = ["transform", "reconstruct", "segment", "score_samples", "decision_function", "predict"]
N_THREADS = 8


def cuts(n, height, width):
    return np.stack([data.gravel()[31 * i : 31 * i + height, :width] for i in range(n)])


def fit(detector, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return detector.fit(X)


@pytest.fixture(scope="module", params=DETECTORS, ids=lambda cls: cls.__name__)
def fitted(request):
    return fit(cheap(request.param), cuts(4, 20, 24))


@pytest.mark.parametrize("method", METHODS)
def test_eight_threads_on_one_detector(fitted, method):
    call = getattr(fitted, method)
    # Every thread has images of its own, of its own size.
    batches = [cuts(3, 17 + i, 40 - i) for i in range(N_THREADS)]
    expected = [call(batch) for batch in batches]
    start = Barrier(N_THREADS)

    def work(i):
        start.wait()
        return [call(batches[i]) for _ in range(4)]

    with ThreadPoolExecutor(N_THREADS) as pool:
        for results, alone in zip(pool.map(work, range(N_THREADS)), expected, strict=True):
            for result in results:
                np.testing.assert_array_equal(result, alone)


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_joblib_scores(fitted, backend):
    batches = [cuts(2, 20 + i, 24) for i in range(4)]
    expected = [fitted.transform(batch) for batch in batches]
    found = Parallel(2, backend=backend)(delayed(fitted.transform)(batch) for batch in batches)
    for maps, alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(maps, alone)


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_joblib_fits(backend, request):
    """Fits at the same time do not disturb each other."""
    if backend == "loky":
        request.getfixturevalue("all_drawn_defects")
    X = cuts(4, 20, 24)
    detectors = [cheap(SSIMAutoencoderDetector, random_state=seed) for seed in range(4)]
    expected = [fit(detector, X).transform(X) for detector in detectors]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = Parallel(2, backend=backend)(delayed(fit)(detector, X) for detector in detectors)
    for detector, alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(detector.transform(X), alone)
