"""Dask arrays and a real cluster of two processes."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import cloudpickle
import dask
import dask.array as da
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from numpy.testing import assert_array_equal
from shared import cheap
from skimage import data
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector, VAEDetector
from sklearn_ssimae.model_selection import pixel_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

METHODS = [
    "transform",
    "segment",
    "reconstruct",
    "score_samples",
    "decision_function",
    "predict",
]


def surface(n=7, height=24, width=32, dtype=np.uint8):
    gravel = data.gravel().astype(dtype)
    return np.stack([gravel[24 * i : 24 * i + height, 23 * i : 23 * i + width] for i in range(n)])


@pytest.fixture(scope="module")
def detector():
    # A threshold that marks some of the images.
    return cheap(SSIMAutoencoderDetector, contamination=0.3).fit(surface())


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def model_keys(lazy):
    """Nodes of the graph that are no chunk of an array."""
    (optimized,) = dask.optimize(lazy)
    return [key for key in optimized.__dask_graph__() if not isinstance(key, tuple)]


# Local schedulers ---------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunks", [1, 3, 7, (0, 2, 0, 5)], ids=str)
def test_results_of_chunks_are_those_of_the_whole(detector, method, chunks):
    X = surface()
    expected = getattr(detector, method)(X)
    lazy = getattr(detector, method)(da.from_array(X).rechunk((chunks, -1, -1)))
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    # The chunks of the result are as promised too.
    assert_array_equal(da.concatenate([lazy[:1], lazy[1:]]).compute(), expected)
    assert lazy.compute().dtype == expected.dtype
    assert len(model_keys(lazy)) == 1


def test_labels_are_of_both_kinds(detector):
    assert set(detector.predict(surface())) == {-1, 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["colour", "rows", "rows of colour"])
def test_colour_and_rows(kind, dtype):
    X = np.stack([surface(), 255 - surface(), surface()], axis=-1).astype(dtype)
    X = X[..., :1] if kind == "rows" else X
    shape = X.shape[1:]
    rows = X.reshape(len(X), -1)
    X = X if kind == "colour" else rows
    detector = fitted_on(X, None if kind == "colour" else shape)
    for method in METHODS:
        lazy = getattr(detector, method)(da.from_array(X, chunks=(2, *X.shape[1:])))
        expected = getattr(detector, method)(X)
        assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
        computed = lazy.compute()
        assert computed.dtype == expected.dtype
        assert_array_equal(computed, expected)


def fitted_on(X, image_shape):
    return cheap(VAEDetector, max_iter=1, image_shape=image_shape).fit(X)


def test_rows_after_a_fit_on_a_sequence():
    X = surface()
    detector = cheap(image_shape=(24, 32)).fit(list(X))
    rows = X.reshape(len(X), -1)
    lazy = detector.transform(da.from_array(rows, chunks=(4, -1)))
    assert_array_equal(lazy.compute(), detector.transform(rows))


def test_no_images(detector):
    lazy = detector.transform(da.zeros((0, 24, 32), dtype=np.uint8))
    assert lazy.compute().shape == (0, 24, 32)


def test_nothing_is_computed_before_it_is_asked_for(detector):
    def read(block_info=None):
        raise AssertionError

    X = da.map_blocks(read, chunks=((2, 2), (24,), (32,)), dtype=np.uint8, meta=np.empty(0, "u1"))
    for method in METHODS:
        getattr(detector, method)(X)


def test_a_later_fit_changes_no_earlier_result():
    X = surface()
    detector = cheap().fit(X)
    expected = detector.transform(X)
    lazy = detector.transform(da.from_array(X, chunks=(3, -1, -1)))
    detector.set_params(random_state=1).fit(X)
    assert_array_equal(lazy.compute(), expected)
    assert (detector.transform(X) != expected).any()


def test_score(detector):
    X = surface()
    labels = [1, 1, -1, 1, -1, 1, 1]
    masks = X > 150
    lazy = da.from_array(X, chunks=(3, -1, -1))
    assert detector.score(lazy, labels) == detector.score(X, labels)
    assert detector.score(lazy, da.from_array(masks, chunks=(3, -1, -1))) == detector.score(
        X, masks
    )


def test_threads_share_one_detector(detector):
    X = surface(n=12)
    lazy = detector.transform(da.from_array(X, chunks=(1, -1, -1)))
    with dask.config.set(scheduler="threads", num_workers=4):
        assert_array_equal(lazy.compute(), detector.transform(X))


# Bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_unknown_chunk_sizes(detector, method):
    X = da.from_array(surface(), chunks=(3, -1, -1))
    X = X[X.mean(axis=(1, 2)) > 0]
    with pytest.raises(ValueError, match=r"unknown chunk sizes, .*X\.compute_chunk_sizes\(\)"):
        getattr(detector, method)(X)
    X.compute_chunk_sizes()
    assert_array_equal(getattr(detector, method)(X), getattr(detector, method)(surface()))


@pytest.mark.parametrize("chunks", [(7, 12, 32), (7, 24, 16), (2, 20, 20)])
def test_chunked_inside_the_images(detector, chunks):
    X = da.from_array(surface(), chunks=chunks)
    remedy = "X.rechunk({0: 'auto', 1: -1, 2: -1})"
    with pytest.raises(ValueError, match="chunked inside the images") as error:
        detector.transform(X)
    assert remedy in str(error.value)
    X = eval(remedy, {"X": X})
    assert_array_equal(detector.transform(X), detector.transform(surface()))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3,), "1 dimensions"),
        ((3, 24, 32, 1, 1), "5 dimensions"),
        ((3, 24, 32, 3), "3 channels, but the detector learns from images of 1"),
        ((3, 24 * 33), "X is one image"),
    ],
)
def test_wrong_shapes_are_refused_at_once(detector, shape, message):
    with pytest.raises(ValueError, match=message):
        detector.transform(da.zeros(shape, dtype=np.uint8, chunks=shape))


def test_values_that_are_no_numbers_are_found_in_the_blocks(detector):
    X = da.from_array(np.full((3, 24, 32), np.nan), chunks=(1, -1, -1))
    with pytest.raises(ValueError, match="NaN"):
        detector.transform(X).compute()


def test_not_fitted():
    with pytest.raises(ValueError, match="not fitted"):
        L2AutoencoderDetector().transform(da.zeros((3, 24, 32)))


@pytest.mark.slow
def test_dask_is_not_imported_without_need():
    code = """
        import sys
        import numpy as np
        import sklearn_ssimae
        X = np.random.default_rng(0).random((2, 16, 16))
        parameters = dict(patch_size=16, latent_dim=2, n_patches=4, max_iter=1, threshold=1)
        detector = sklearn_ssimae.L2AutoencoderDetector(**parameters).fit(X)
        detector.predict(X)
        assert not {"dask", "distributed", "zarr"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


# A cluster of two processes -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_what_one_gives(client, detector, method):
    X = surface(n=12)
    lazy = getattr(detector, method)(da.from_array(X, chunks=(1, -1, -1)))
    assert_array_equal(client.compute(lazy).result(), getattr(detector, method)(X))


def incoming(dask_worker):
    """Keys of what a worker got from others."""
    return [key for transfer in dask_worker.transfer_incoming_log for key in transfer["keys"]]


@pytest.mark.slow
def test_the_model_travels_once_to_each_worker(client, detector):
    lazy = detector.score_samples(da.from_array(surface(n=20), chunks=(1, -1, -1)))
    (model,) = model_keys(lazy)
    assert_array_equal(lazy.compute(), detector.score_samples(surface(n=20)))
    # One worker holds it from the start, and gives it to the other.
    travels = [keys.count(model) for keys in client.run(incoming).values()]
    assert sorted(travels) in ([0, 1], [0, 0])


def test_no_task_carries_the_model(detector):
    lazy = detector.transform(da.zeros((20, 24, 32), chunks=(1, -1, -1), dtype=np.uint8))
    (model,) = model_keys(lazy)
    (optimized,) = dask.optimize(lazy)
    sizes = {key: len(cloudpickle.dumps(task)) for key, task in dict(optimized.dask).items()}
    assert sizes.pop(model) > 20_000
    assert max(sizes.values()) < 10_000


def die_once(images, path):
    """Kill the process of whoever takes this image first."""
    if images[0, 0, 0] == 255 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return images


@pytest.mark.slow
def test_a_worker_killed_in_the_middle(client, detector, tmp_path):
    X = surface(n=16)
    X[X == 255] = 254
    X[8, 0, 0] = 255
    expected = detector.transform(X)
    before = set(client.run(os.getpid).values())
    killed = tmp_path / "killed"
    lazy = da.from_array(X, chunks=(1, -1, -1)).map_blocks(die_once, killed, dtype=X.dtype)
    assert_array_equal(client.compute(detector.transform(lazy)).result(), expected)
    assert killed.exists()
    client.wait_for_workers(2)
    assert len(before & set(client.run(os.getpid).values())) == 1


@pytest.mark.slow
def test_search_on_the_cluster(client, all_drawn_defects):
    X = surface(n=6)
    masks = np.zeros(X.shape, bool)
    masks[::2, 5:9, 5:9] = True
    X[masks] = 0

    def search():
        return GridSearchCV(
            cheap(),
            {"latent_dim": [2, 5], "learning_rate": ["constant", "trapezoid"]},
            scoring=pixel_scorer("roc_auc"),
            cv=KFold(2),
        )

    expected = search().fit(X, masks)
    with joblib.parallel_config("dask"):
        found = search().fit(X, masks)
    key = "mean_test_score"
    assert len(set(expected.cv_results_[key])) > 1
    assert_array_equal(found.cv_results_[key], expected.cv_results_[key])
    assert found.best_params_ == expected.best_params_
    assert_array_equal(found.transform(X), expected.transform(X))


@pytest.mark.slow
def test_the_example():
    example = pathlib.Path(__file__).parents[2] / "examples" / "score_with_dask.py"
    result = subprocess.run([sys.executable, example], check=True, capture_output=True, text=True)
    assert result.stdout.count("score -") == 16


@pytest.mark.slow
def test_workers_without_the_package(detector):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(exec, "import sys; sys.modules['sklearn_ssimae'] = None", {})
        lazy = detector.transform(da.from_array(surface(), chunks=(3, -1, -1)))
        message = "cannot load the detector: .*sklearn_ssimae.* Install sklearn-ssimae, .* worker"
        with pytest.raises(ModuleNotFoundError, match=message):
            lazy.compute()
