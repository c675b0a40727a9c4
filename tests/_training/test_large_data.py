"""Data larger than memory: files, arrays on disk, and reading while the network trains."""

import gc
import threading
import tracemalloc
import weakref
from functools import cache

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from numpy.testing import assert_array_equal
from PIL import Image
from shared import cheap

from sklearn_ssimae._deciding import calibration
from sklearn_ssimae._images.collection import StoredImages, is_stored
from sklearn_ssimae._training import crops
from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.reading import Reading
from sklearn_ssimae._training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def noise(shape, dtype):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def memmap(X, folder):
    stored = np.memmap(folder / "images", X.dtype, "w+", shape=X.shape)
    stored[:] = X
    stored.flush()
    return np.memmap(folder / "images", X.dtype, "r", shape=X.shape)


def zarr_array(X, folder):
    stored = zarr.create_array(folder / "z", shape=X.shape, chunks=(2, *X.shape[1:]), dtype=X.dtype)
    stored[:] = X
    return stored


def dask_array(X, folder):
    return da.from_array(zarr_array(X, folder))


STORES = [memmap, zarr_array, dask_array]
LABELS = np.array([1, 1, -1, 1, 1, 1, -1, 1, 1])


def assert_same_model(detector, expected):
    assert detector.loss_curve_ == expected.loss_curve_
    for name, tensor in expected.network_.state_dict().items():
        assert torch.equal(detector.network_.state_dict()[name], tensor)
    for name in ["threshold_", "data_range_", "image_shape_", "n_features_in_"]:
        assert getattr(detector, name, None) == getattr(expected, name, None)


# Arrays on disk -----------------------------------------------------------------------


@cache
def fitted_in_memory(shape, dtype):
    """For all kinds of stored arrays."""
    return cheap().fit(noise(shape, dtype), LABELS)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("shape", [(9, 24, 32), (9, 24, 32, 3), (9, 24 * 24)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_fit_and_results_are_those_of_an_array_in_memory(store, shape, dtype, tmp_path):
    X = noise(shape, dtype)
    stored = store(X, tmp_path)
    assert is_stored(stored) and not is_stored(X)
    expected = fitted_in_memory(shape, dtype)
    detector = cheap().fit(stored, LABELS)
    assert_same_model(detector, expected)
    assert_array_equal(np.asarray(detector.transform(stored)), expected.transform(X))
    assert_array_equal(np.asarray(detector.predict(stored)), expected.predict(X))


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_the_array_is_never_whole_in_memory(store, tmp_path, monkeypatch):
    # Two hundred images of 64 kB; the prepared ones take four times as much.
    X = noise((200, 256, 256), np.uint8)
    stored = store(X, tmp_path)
    n_bytes = X.nbytes
    del X
    monkeypatch.setattr(crops, "CACHE_BYTES", 10 * 2**18)
    monkeypatch.setattr(calibration, "_PIXELS", 2 * 2**16)
    monkeypatch.setattr(calibration, "_LEAST_IMAGES", 2)
    detector = cheap(n_patches=400, stride=16, threshold=1)
    # What is imported when it is first needed is no image.
    (tmp_path / "first").mkdir()
    detector.fit(store(noise((20, 256, 256), np.uint8), tmp_path / "first"))
    gc.collect()
    tracemalloc.start()
    detector.fit(stored)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < n_bytes


class OnDisk:
    """A chunked array that knows how many of its images are alive."""

    chunks = (1, 24, 32)
    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, n_images):
        self.shape = (n_images, 24, 32)
        self.alive = 0
        self.most = 0

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        assert isinstance(index, int)
        image = np.full(self.shape[1:], index, np.uint8)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(image, self.forget)
        return image

    def forget(self):
        self.alive -= 1


def test_images_are_taken_one_by_one():
    stored = OnDisk(80)
    detector = cheap(n_patches=160, stride=16, threshold=1).fit(stored)
    assert 1 <= stored.most <= 4  # the thread that reads ahead holds some, too
    stored.most = 0
    detector.score_samples(stored)
    assert 1 <= stored.most <= 12  # eight of these small images make a batch of patches


def test_chosen_images_are_not_read():
    stored = OnDisk(10)
    images = StoredImages(stored, (24, 32, 1)).take(np.array([7, 2, 5])).take(np.array([2, 0]))
    assert stored.most == 0 and len(images) == 2
    assert images[0].shape == (24, 32, 1)
    assert (images[0] == 5).all() and (images[1] == 7).all()


def test_an_image_of_wrong_values_is_named(tmp_path):
    X = noise((9, 24, 32), np.float64)
    X[6, 3, 3] = np.nan
    with pytest.raises(ValueError, match=r"image 6: .*NaN"):
        cheap().fit(memmap(X, tmp_path))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 24, 32), "no pixels, shape"), ((2, 2, 2, 2, 2), "5 dimensions"), ((0, 9), "no pixels")],
)
def test_stored_arrays_of_wrong_shapes(shape, message):
    with pytest.raises(ValueError, match=message):
        cheap().fit(da.zeros(shape, dtype=np.uint8))


def test_fit_on_a_dask_array_of_unknown_length():
    X = da.from_array(noise((9, 24, 32), np.uint8), chunks=(3, -1, -1))
    X = X[X.mean(axis=(1, 2)) >= 0]
    with pytest.raises(ValueError, match=r"unknown length.*X\.compute_chunk_sizes\(\)"):
        cheap().fit(X)


# Reading while the network trains -----------------------------------------------------


def threads():
    return [thread for thread in threading.enumerate() if isinstance(thread, Reading)]


@pytest.fixture
def files(tmp_path):
    X = noise((40, 24, 32), np.uint8)
    paths = [tmp_path / f"{index}.png" for index in range(len(X))]
    for image, path in zip(X, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_the_next_group_is_read_while_one_is_in_use():
    read = threading.Event()
    loaded = []

    def load(index):
        loaded.append((index, threading.current_thread()))
        if len(loaded) == 8:
            read.set()
        return torch.full((1, 16, 16), float(index))

    sampler = CropSampler(load, 20, 16, 1, np.random.default_rng(0))
    batches = sampler.batches(32, 8)
    next(batches)
    assert read.wait(timeout=60)  # while the first group's crops are only begun
    list(batches)
    ahead = [index for index, _ in loaded[4:8]]
    (batch,) = sampler.batches(32, 32)
    assert set(batch[:, 0, 0, 0].int().tolist()) <= set(ahead)
    sampler.close()
    assert threads() == []
    assert threading.main_thread() not in [thread for _, thread in loaded]


def test_speed_of_reading_changes_nothing():
    def draw(delays):
        def load(index):
            delays[index % 2].wait(0.01)
            return torch.arange(400.0).reshape(1, 20, 20) + 1000 * index

        sampler = CropSampler(load, 30, 16, 1, np.random.default_rng(0), augment=True)
        crops = [torch.cat(list(sampler.batches(48, 7))) for _ in range(12)]
        sampler.close()
        return crops

    at_once, waits = threading.Event(), threading.Event()
    at_once.set()
    fast, slow = draw([at_once, at_once]), draw([at_once, waits])
    assert all(torch.equal(one, two) for one, two in zip(fast, slow, strict=True))


@pytest.mark.parametrize("n_epochs", [1, 2, 5, 6])
def test_a_sampler_goes_on_from_its_state(n_epochs, monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", 8 * 4 * 400)

    def make():
        return CropSampler(
            lambda index: torch.arange(400.0).reshape(1, 20, 20) + 1000 * index,
            11,
            16,
            1,
            np.random.default_rng(0),
        )

    def epochs(sampler, n):
        return [torch.cat(list(sampler.batches(100, 9))) for _ in range(n)]

    whole, first, second = make(), make(), make()
    expected = epochs(whole, n_epochs + 6)
    epochs(first, n_epochs)
    next(second.batches(64, 64))  # as fit does before it finds a checkpoint
    second.load_state_dict(first.state_dict())
    found = epochs(second, 6)
    for sampler in (whole, first, second):
        sampler.close()
    assert all(torch.equal(a, b) for a, b in zip(expected[n_epochs:], found, strict=True))


def test_fit_from_files_repeats_itself_and_leaves_no_thread(files):
    first, again = (cheap().fit(files) for _ in range(2))
    assert_same_model(again, first)
    assert threads() == []


def test_a_damaged_file_is_named_and_no_thread_is_left(files):
    for path in files[::3]:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(OSError, match=r"\d+\.png is not a readable image"):
        cheap(max_iter=40).fit(files)
    assert threads() == []


def test_an_error_of_the_training_stops_the_thread(files, monkeypatch):
    def fail(*args):
        raise RuntimeError("a step fails")

    monkeypatch.setattr(Trainer, "_run_steps", fail)
    with pytest.raises(RuntimeError, match="a step fails"):
        cheap().fit(files)
    assert threads() == []


def test_few_files_are_open_to_an_epoch(files, monkeypatch):
    opened = []
    pillow_open = Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or pillow_open(path))
    cheap(n_patches=16, max_iter=3, threshold=1, residual="plain", smoothing=0).fit(files)
    # The first image, for its dtype and channels, and its size, which says what can be kept;
    # 8 for a look at the data; two images an epoch, and as many read ahead.
    assert len(opened) <= 2 + 1 + 2 * 8 + 2 * (3 + 1)
