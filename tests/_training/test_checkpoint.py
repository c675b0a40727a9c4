"""The file of a training: which fits may use it, and what becomes of a damaged one."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from joblib import Parallel, delayed, parallel_config
from killed import IMAGES, assert_same_model, cheap, leave_checkpoint, n_epochs_run
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sklearn_ssimae import (
    FMAEDetector,
    VAEDetector,
)
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._training import checkpoint as checkpoints
from sklearn_ssimae._training import identity

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# Refused -----------------------------------------------------------------------------


def test_other_parameters_are_refused(path):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    before = path.read_bytes()
    for params, message in (
        (dict(latent_dim=5), "latent_dim was 8, now is 5"),
        (dict(max_iter=5, n_patches=33), "max_iter was 4, now is 5; n_patches was 32, now is 33"),
        (dict(learning_rate="constant"), "learning_rate was 'trapezoid', now is 'constant'"),
        (dict(threshold=0.5), "threshold was None, now is 0.5"),
        (dict(data_range=(0, 200)), r"data_range was None, now is \(0, 200\)"),
        (dict(random_state=1), "random_state was 0, now is 1"),
        (dict(random_state=np.random.RandomState(0)), "random_state was 0, now is a generator"),
    ):
        with pytest.raises(ValueError, match=f"belongs to another fit: {message}.*delete the file"):
            cheap(checkpoint=path, **params).fit(IMAGES)
        assert path.read_bytes() == before


def test_another_detector_is_refused(path):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    message = r"detector was L2Auto.*, now is VAEDetector.*kl_weight was not set, now is 1;"
    with pytest.raises(ValueError, match=message):
        cheap(VAEDetector, checkpoint=path).fit(IMAGES)


def test_another_version_is_refused(path, monkeypatch):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    monkeypatch.setattr(identity, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"sklearn_ssimae was \d.*, now is 99\.0"):
        cheap(checkpoint=path).fit(IMAGES)


def test_weights_of_a_feature_extractor(path):
    def detector(seed):
        torch.manual_seed(seed)
        return cheap(FMAEDetector, feature_extractor=torch.nn.Conv2d(3, 2, 3), checkpoint=path)

    leave_checkpoint(detector(0), IMAGES)
    with pytest.raises(ValueError, match="feature_extractor was Conv2d with the weights"):
        detector(1).fit(IMAGES)
    detector(0).fit(IMAGES)


def test_what_changes_nothing_is_not_compared(path):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    detector = cheap(
        checkpoint=str(path), verbose=1, latent_dim=np.int64(8), tol=np.float64(1e-4)
    ).fit(IMAGES)
    assert_same_model(detector, cheap().fit(IMAGES))


def test_other_images_are_refused(path):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    one_bit = (np.arange(IMAGES.size) == 7).reshape(IMAGES.shape)
    for others, message in (
        (IMAGES[:9], "the number of images was 10, now is 9"),
        (IMAGES[:, :18], r"shapes and dtypes .* was \(20, 24, 1\) \|u1, now is \(18, 24, 1\)"),
        (IMAGES.astype(float), "shapes and dtypes"),
        (IMAGES[::-1], "the values of the images"),
        (IMAGES ^ one_bit, "the values of the images"),
    ):
        with pytest.raises(ValueError, match=f"another fit: .*{message}"):
            cheap(checkpoint=path).fit(others)
    for same in (IMAGES.copy(), np.asfortranarray(IMAGES)):
        leave_checkpoint(cheap(checkpoint=path), same, n_epochs=1)


def test_images_that_y_leaves_out(path):
    y = np.array([-1] + [1] * 9)
    leave_checkpoint(cheap(checkpoint=path), IMAGES, y)
    with pytest.raises(ValueError, match="the number of images was 9, now is 10"):
        cheap(checkpoint=path).fit(IMAGES)
    assert_same_model(
        cheap(checkpoint=path).fit(IMAGES, np.where(y < 0, -1, 7)), cheap().fit(IMAGES, y)
    )


def test_other_files_are_refused(path, files):
    detector = cheap(checkpoint=path)
    leave_checkpoint(detector, files)
    with pytest.raises(ValueError, match="fit: the names of the image files"):
        clone(detector).fit(files[::-1])
    assert_same_model(clone(detector).fit([str(file) for file in files]), cheap().fit(files))
    leave_checkpoint(detector, files)
    os.utime(files[3], (1, 1))
    with pytest.raises(ValueError, match="fit: sizes and times of the image files"):
        clone(detector).fit(files)


def test_files_are_not_read_for_it(path, files, monkeypatch):
    seen = []
    monkeypatch.setattr(ImageCollection, "__getitem__", lambda self, index: seen.append(index))
    found = identity.describe_images(ImageCollection(files, "sequence"))
    assert found["the number of images"] == "10" and seen == []


# Damaged -----------------------------------------------------------------------------


def test_damaged_files_are_refused(path):
    """Cut, cut in the header, empty, with another bit, all zeros."""
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    content = path.read_bytes()
    half = len(content) // 2
    one_bit = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for damaged in (content[:half], content[:11], b"", one_bit, bytes(len(content))):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"training\.checkpoint' is .*delete it"):
            cheap(checkpoint=path).fit(IMAGES)
        assert path.read_bytes() == damaged


def test_no_other_file_is_overwritten(path):
    path.write_text("the only copy of something else")
    with pytest.raises(ValueError, match="is no checkpoint"):
        cheap(checkpoint=path).fit(IMAGES)
    assert path.read_text() == "the only copy of something else"


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_checkpoint_runs_no_code(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with checkpoints.open_checkpoint(path, "", dict) as checkpoint:
        checkpoint.save({"seeds": Evil()})
        with pytest.raises(ValueError, match="cannot be read"):
            checkpoint.load()
    assert not Path("evil").exists()


# Several fits ------------------------------------------------------------------------


def test_a_file_serves_one_fit_at_a_time(path):
    with (
        FileLock(f"{path}.lock"),
        pytest.raises(ValueError, match=r"Another fit is writing .*checkpoint'.*folder"),
    ):
        cheap(checkpoint=path).fit(IMAGES)
    assert_same_model(cheap(checkpoint=path).fit(IMAGES), cheap().fit(IMAGES))


@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_a_folder_serves_all_fits_of_a_search(backend, tmp_path):
    def search(**params):
        return GridSearchCV(
            # Of a map that is not chosen: workers draw more defects than tests do.
            cheap(max_iter=2, smoothing=1.0, residual="plain", **params),
            {"latent_dim": [2, 3]},
            scoring=lambda estimator, X, y=None: estimator.score_samples(X).mean(),
            cv=KFold(2),
            n_jobs=2,
            error_score="raise",
        )

    with parallel_config(backend):
        found = search(checkpoint=tmp_path).fit(IMAGES)
    expected = search().set_params(n_jobs=1).fit(IMAGES)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])
    assert_same_model(found.best_estimator_, expected.best_estimator_)
    assert os.listdir(tmp_path) == []


def test_a_killed_search_goes_on_in_its_folder(tmp_path):
    detector = cheap(checkpoint=tmp_path)
    leave_checkpoint(detector, IMAGES[:5])
    leave_checkpoint(detector, IMAGES[5:], n_epochs=3)
    assert len(list(tmp_path.glob("L2AutoencoderDetector-*.checkpoint"))) == 2
    resumed = clone(detector)
    assert n_epochs_run(resumed, IMAGES[5:]) == 1
    assert_same_model(resumed, cheap().fit(IMAGES[5:]))
    assert n_epochs_run(clone(detector), IMAGES) == 4  # a fit of its own
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_a_file_in_a_search_is_never_shared(path):
    """Either a fit has the file to itself, or it fails and says why."""
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="folder as checkpoint"):
        cross_val_score(
            cheap(checkpoint=path),
            IMAGES,
            scoring=lambda *args: 0.0,
            cv=2,
            n_jobs=2,
            error_score="raise",
        )
    assert path.read_bytes() == before


def test_equal_fits_at_once_are_refused(tmp_path):
    def fit():
        try:
            return cheap(checkpoint=tmp_path, max_iter=3).fit(IMAGES)
        except ValueError as error:
            assert "Another fit is writing" in str(error)
            return None

    fitted = Parallel(4, backend="threading")(delayed(fit)() for _ in range(4))
    expected = cheap(max_iter=3).fit(IMAGES)
    assert any(detector is not None for detector in fitted)
    for detector in fitted:
        if detector is not None:
            assert_same_model(detector, expected)
