"""Training that is killed, refused or robbed of its files, and what is left of it."""

import errno
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from joblib import Parallel, delayed, parallel_config
from skimage import data, io
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    SSIMAutoencoderDetector,
    VAEDetector,
)
from sklearn_ssimae._training import checkpoint as checkpoints
from sklearn_ssimae._training import identity
from sklearn_ssimae._training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DETECTORS = [SSIMAutoencoderDetector, L2AutoencoderDetector, VAEDetector, FMAEDetector]
# More images than an epoch reads, so that every epoch visits others.
IMAGES = np.stack([data.grass()[9 * i : 9 * i + 20, :24] for i in range(10)])


class Killed(BaseException):
    """Ends a fit as SIGKILL would: nobody catches it."""


def cheap(cls=L2AutoencoderDetector, **params):
    cheapest = dict(
        patch_size=16, latent_dim=4, n_patches=32, max_iter=4, stride=16, random_state=0
    )
    if cls is FMAEDetector:
        cheapest["feature_extractor"] = torch.nn.AvgPool2d(3)
    return cls(**{**cheapest, **params})


def assert_same_model(one, other):
    weights = other.network_.state_dict()
    assert one.network_.state_dict().keys() == weights.keys()
    for name, tensor in one.network_.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert one.loss_curve_ == other.loss_curve_
    assert one.n_iter_ == other.n_iter_
    assert one.threshold_ == other.threshold_
    assert one.data_range_ == other.data_range_


def dies_after(monkeypatch, n_epochs, error=Killed):
    """Let a fit die when so many checkpoints are written."""
    saved = []
    save = checkpoints.Checkpoint.save

    def save_and_die(self, state):
        save(self, state)
        saved.append(self.path)
        if len(saved) == n_epochs:
            raise error

    monkeypatch.setattr(checkpoints.Checkpoint, "save", save_and_die)


def leave_checkpoint(detector, X, y=None, n_epochs=2):
    with pytest.MonkeyPatch.context() as monkeypatch:
        dies_after(monkeypatch, n_epochs)
        with pytest.raises(Killed):
            clone(detector).fit(X, y)


@pytest.fixture(params=DETECTORS, ids=lambda cls: cls.__name__)
def cls(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.checkpoint"


# Killed ------------------------------------------------------------------------------


def fit_and_die(path, n_calls):
    """In a process of its own: SIGKILL at the n-th call of a function, Python's or C's."""
    detector = cheap(VAEDetector, checkpoint=path, n_patches=16)
    left = n_calls

    def count(frame, event, argument):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sys.setprofile(count)
        detector.fit(IMAGES)


def test_kill_at_ten_random_moments(tmp_path):
    n_calls = [0]

    def count(frame, event, argument):
        n_calls[0] += 1

    cheap(VAEDetector, max_iter=1).fit(IMAGES)  # imports what torch needs in a first fit
    sys.setprofile(count)
    try:
        unharmed = cheap(VAEDetector, checkpoint=tmp_path / "unharmed", n_patches=16)
        expected = unharmed.fit(IMAGES)
    finally:
        sys.setprofile(None)
    processes = multiprocessing.get_context("forkserver")
    # The first fit of a process imports what torch needs; no moments are to be spent on it.
    processes.set_forkserver_preload([__name__, "torch._dynamo"])
    epochs = []
    for moment in np.random.default_rng(0).integers(1, 0.95 * n_calls[0], size=10).tolist():
        path = tmp_path / f"{moment}.checkpoint"
        process = processes.Process(target=fit_and_die, args=(path, moment))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        resumed = cheap(VAEDetector, checkpoint=path, n_patches=16)
        epochs.append(4 - n_epochs_run(resumed, IMAGES))
        assert_same_model(resumed, expected)
    assert len(set(epochs)) > 2  # the moments were spread over the training
    assert os.listdir(tmp_path) == []


def n_epochs_run(detector, X):
    """Epochs that a fit goes through itself."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_epoch, runs = Trainer.run_epoch, []
        monkeypatch.setattr(Trainer, "run_epoch", lambda *args: runs.append(1) or run_epoch(*args))
        detector.fit(X)
    return len(runs)


@pytest.mark.parametrize("n_epochs", [1, 3, 4])
def test_a_resumed_fit_ends_with_the_same_model(cls, n_epochs, path, capsys):
    detector = cheap(cls, checkpoint=path)
    leave_checkpoint(detector, IMAGES, n_epochs=n_epochs)
    resumed = clone(detector).set_params(verbose=1)
    assert n_epochs_run(resumed, IMAGES) == 4 - n_epochs
    assert f"goes on after epoch {n_epochs}/4 from the checkpoint {path}" in capsys.readouterr().out
    assert_same_model(resumed, cheap(cls).fit(IMAGES))
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    "params",
    [
        dict(learning_rate="constant", tol=10.0, n_iter_no_change=1, max_iter=8),
        dict(random_state=np.random.RandomState(3)),
        dict(augment=True, precision="bfloat16", scale=0.5),
    ],
)
def test_other_parameters(params, path):
    detector = cheap(VAEDetector, checkpoint=path, **params)
    leave_checkpoint(detector, IMAGES, n_epochs=3)
    expected = cheap(VAEDetector, **pickle.loads(pickle.dumps(params))).fit(IMAGES)
    assert_same_model(clone(detector).fit(IMAGES), expected)


def test_early_stopping_is_remembered(path, monkeypatch):
    detector = cheap(checkpoint=path, max_iter=9, tol=10.0, n_iter_no_change=2)
    flat = np.full((10, 20, 20), 0.4)
    expected = clone(detector).set_params(checkpoint=None).fit(flat)
    assert expected.n_iter_ < 9
    for n_epochs in (1, expected.n_iter_ - 1, expected.n_iter_):
        leave_checkpoint(detector, flat, n_epochs=n_epochs)
        assert_same_model(clone(detector).fit(flat), expected)


def test_the_drawn_seed_of_no_random_state_is_kept(path):
    detector = cheap(checkpoint=path, random_state=None)
    np.random.seed(5)
    expected = cheap(random_state=None).fit(IMAGES)
    np.random.seed(5)
    leave_checkpoint(detector, IMAGES)
    assert_same_model(clone(detector).fit(IMAGES), expected)


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "fsync of the folder"])
def test_death_while_the_file_is_written(call, path, monkeypatch):
    detector = cheap(checkpoint=path)
    leave_checkpoint(detector, IMAGES, n_epochs=1)
    before = path.read_bytes()
    n_synced = []

    def fsync(handle):
        n_synced.append(handle)
        if call != "fsync of the folder" or len(n_synced) == 2:
            raise Killed

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(checkpoints.os, "fsync", fsync)
        patch.setattr(checkpoints.os, "replace" if call == "replace" else "fsync", kill)
        if "fsync" in call:
            patch.setattr(checkpoints.os, "fsync", fsync)
        with pytest.raises(Killed):
            clone(detector).fit(IMAGES)
    assert (path.read_bytes() == before) == (call != "fsync of the folder")
    assert_same_model(clone(detector).fit(IMAGES), cheap().fit(IMAGES))
    assert os.listdir(path.parent) == []


def test_death_while_the_threshold_is_set(path, monkeypatch):
    def die(*args):
        raise Killed

    detector = cheap(checkpoint=path)
    with monkeypatch.context() as patch:
        patch.setattr(L2AutoencoderDetector, "_score_samples", die)
        with pytest.raises(Killed):
            clone(detector).fit(IMAGES)
    path.with_name(f"{path.name}.tmp").write_bytes(b"half a state")
    resumed = clone(detector)
    assert n_epochs_run(resumed, IMAGES) == 0
    assert_same_model(resumed, cheap().fit(IMAGES))
    assert os.listdir(path.parent) == []


def test_a_fit_that_goes_on_from_another(path):
    """warm_start: the network at the start is part of what must agree."""
    first = cheap(warm_start=True).fit(IMAGES)
    expected = pickle.loads(pickle.dumps(first)).fit(IMAGES)
    stored = pickle.dumps(first.set_params(checkpoint=path))
    with pytest.MonkeyPatch.context() as monkeypatch:
        dies_after(monkeypatch, 2)
        with pytest.raises(Killed):
            pickle.loads(stored).fit(IMAGES)
    with pytest.raises(ValueError, match=r"the network at the start was [0-9a-f]+ after 4 epochs"):
        cheap(warm_start=True, checkpoint=path).fit(IMAGES)
    assert_same_model(pickle.loads(stored).fit(IMAGES), expected)


def test_partial_fit_writes_none(path):
    cheap(checkpoint=path).partial_fit(IMAGES).partial_fit(IMAGES)
    assert os.listdir(path.parent) == []


def test_callbacks_see_the_epochs_that_are_left(path):
    class Names:
        names = ()

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context):
            self.names += (context.task_name,)

        def on_fit_task_end(self, estimator, context): ...

    detector = cheap(checkpoint=path)
    leave_checkpoint(detector, IMAGES)
    names = Names()
    assert_same_model(detector.set_callbacks(names).fit(IMAGES), cheap().fit(IMAGES))
    assert names.names == ("fit", "epoch 3", "epoch 4")


# Refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (dict(latent_dim=5), "latent_dim was 4, now is 5"),
        (dict(max_iter=5, n_patches=33), "max_iter was 4, now is 5; n_patches was 32, now is 33"),
        (dict(learning_rate="constant"), "learning_rate was 'one_cycle', now is 'constant'"),
        (dict(threshold=0.5), "threshold was None, now is 0.5"),
        (dict(data_range=(0, 200)), r"data_range was None, now is \(0, 200\)"),
        (dict(random_state=1), "random_state was 0, now is 1"),
        (dict(random_state=np.random.RandomState(0)), "random_state was 0, now is a generator"),
    ],
)
def test_other_parameters_are_refused(params, message, path):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    before = path.read_bytes()
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
        checkpoint=str(path), verbose=1, latent_dim=np.int64(4), tol=np.float64(1e-4)
    ).fit(IMAGES)
    assert_same_model(detector, cheap().fit(IMAGES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:9], "the number of images was 10, now is 9"),
        (lambda X: X[:, :18], r"shapes and dtypes .* was \(20, 24, 1\) \|u1, now is \(18, 24, 1\)"),
        (lambda X: X.astype(float), "shapes and dtypes"),
        (lambda X: X[::-1], "the values of the images"),
        (lambda X: X ^ (np.arange(X.size) == 7).reshape(X.shape), "the values of the images"),
    ],
)
def test_other_images_are_refused(change, message, path):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    with pytest.raises(ValueError, match=f"another fit: .*{message}"):
        cheap(checkpoint=path).fit(change(IMAGES))
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


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(len(IMAGES))]
    for name, image in zip(paths, IMAGES, strict=True):
        io.imsave(name, image, check_contrast=False)
    return paths


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
    describe = checkpoints.describe_images
    monkeypatch.setattr(
        type(describe.__globals__["ImageCollection"]([], "sequence")),
        "__getitem__",
        lambda self, index: seen.append(index),
    )
    found = describe(checkpoints.ImageCollection(files, "sequence"))
    assert found["the number of images"] == "10" and seen == []


# Damaged -----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut", "cut in the header", "empty", "one bit", "zeros"])
def test_damaged_files_are_refused(damage, path):
    leave_checkpoint(cheap(checkpoint=path), IMAGES)
    content = bytearray(path.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    size = {"cut": len(content) // 2, "cut in the header": 11, "empty": 0}
    damaged = bytes(len(content)) if damage == "zeros" else bytes(content[: size.get(damage)])
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


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_folder_serves_all_fits_of_a_search(backend, tmp_path):
    def search(**params):
        return GridSearchCV(
            cheap(max_iter=2, **params),
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


# Ctrl-C ------------------------------------------------------------------------------


def losses_and_ctrl_c(monkeypatch, losses):
    """Let epochs report these losses; Ctrl-C in the epoch after the last."""
    run_epoch, left = Trainer.run_epoch, iter(losses)
    weights = []

    def run(self, batches):
        batches = iter(batches)
        loss = next(left, None)
        if loss is None:
            run_epoch(self, [next(batches)])
            raise KeyboardInterrupt
        run_epoch(self, batches)
        weights.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return loss

    monkeypatch.setattr(Trainer, "run_epoch", run)
    return weights


@pytest.mark.parametrize(("losses", "best"), [((0.3, 0.1, 0.2), 1), ((0.3, 0.2, 0.1), 2)])
def test_ctrl_c_keeps_the_best_network(cls, losses, best, path, monkeypatch):
    detector = cheap(cls, max_iter=9, checkpoint=path)
    with monkeypatch.context() as patch:
        # The divergence of the VAE is faded in, which makes early losses incomparable.
        patch.setattr(Trainer, "warmth", 1.0)
        weights = losses_and_ctrl_c(patch, losses)
        with pytest.warns(ConvergenceWarning, match="interrupted.*lowest loss"):
            detector.fit(IMAGES)
    kept = detector.network_.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[best].items())
    assert detector.loss_curve_ == list(losses) and detector.n_iter_ == 3
    assert not detector.network_.training
    scores = detector.score_samples(IMAGES)
    assert detector.threshold_ == -np.percentile(scores, 1)
    # The training itself has not gone back: the next fit goes on where it was.
    assert path.exists()
    assert n_epochs_run(detector, IMAGES) == 6
    assert detector.n_iter_ == 9 and not path.exists()


def test_the_best_network_survives_a_kill(path, monkeypatch):
    detector = cheap(max_iter=9, checkpoint=path)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "warmth", 1.0)
        weights = losses_and_ctrl_c(patch, (0.3, 0.1, 0.2, 0.4))
        dies_after(patch, 3)
        with pytest.raises(Killed):
            clone(detector).fit(IMAGES)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "warmth", 1.0)
        losses_and_ctrl_c(patch, (0.4,))
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            detector.fit(IMAGES)
    kept = detector.network_.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[1].items())
    assert detector.loss_curve_ == [0.3, 0.1, 0.2, 0.4]


def test_ctrl_c_in_the_first_epoch_keeps_that_moment(cls, monkeypatch):
    detector = cheap(cls)
    with monkeypatch.context() as patch:
        losses_and_ctrl_c(patch, ())
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            detector.fit(IMAGES)
    assert detector.n_iter_ == 0 and detector.loss_curve_ == []
    assert np.isfinite(detector.transform(IMAGES)).all() and np.isfinite(detector.threshold_)
    assert_same_model(detector.fit(IMAGES), cheap(cls).fit(IMAGES))


# Errors in the middle ----------------------------------------------------------------


def assert_usable(detector, n_epochs, X=IMAGES):
    assert detector.n_iter_ == len(detector.loss_curve_) == n_epochs
    assert not detector.network_.training
    maps = detector.transform(X)
    np.testing.assert_array_equal(detector.score_samples(X), -maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(detector.segment(X), maps > detector.threshold_)
    pickle.loads(pickle.dumps(detector)).predict(X)


def network_after(n_epochs, X=IMAGES, **params):
    """The network of a fit that ends after so many of its epochs."""

    class Stop:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            return context.task_name == f"epoch {n_epochs}"

    return cheap(**params).set_callbacks(Stop()).fit(X)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_full(call, path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    detector = cheap(checkpoint=path)
    leave_checkpoint(detector, IMAGES)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, call, fail)
        with pytest.raises(
            OSError, match=r"No space left on device.*Make room.*training\.chec"
        ) as e:
            detector.fit(IMAGES)
    assert e.value.errno == errno.ENOSPC and e.value.filename == str(path)
    assert_usable(detector, 3)
    assert_same_model(detector, network_after(3))
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    assert_same_model(detector.fit(IMAGES), cheap().fit(IMAGES))


def test_disk_full_in_a_process_with_a_file_size_limit(path):
    script = """
import sys, signal, resource, warnings
warnings.simplefilter("ignore")
import numpy as np
from sklearn_ssimae import L2AutoencoderDetector
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
X = np.random.default_rng(0).random((3, 20, 20))
detector = L2AutoencoderDetector(patch_size=16, latent_dim=4, n_patches=32, max_iter=2,
                                 stride=16, random_state=0, checkpoint=sys.argv[1])
try:
    detector.fit(X)
except OSError as error:
    print(type(error).__name__, error.filename, detector.n_iter_, detector.predict(X).shape)
"""
    root = Path(checkpoints.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.stdout == f"OSError {path} 1 (3,)\n"
    assert os.listdir(path.parent) == []


def test_a_folder_that_cannot_be_written_is_found_before_training(path, monkeypatch):
    def refuse(self, *args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "lock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    detector = cheap(checkpoint=path)
    with pytest.raises(PermissionError, match=r"Permission denied.*training\.checkpoint"):
        detector.fit(IMAGES)
    assert not hasattr(detector, "network_")


def test_a_folder_that_is_missing(tmp_path):
    for missing in (tmp_path / "no" / "such" / "file", f"{tmp_path}/folder/"):
        with pytest.raises(
            FileNotFoundError, match=r"checkpoint='.*(file|folder/)' does not exist"
        ):
            cheap(checkpoint=missing).fit(IMAGES)


class Vanishing:
    """Removes files when an epoch is over."""

    def __init__(self, files, epoch):
        self.files, self.epoch = files, epoch

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        if context.task_name == f"epoch {self.epoch}":
            for file in self.files:
                file.unlink()


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_images_that_vanish(cls, threshold, files):
    detector = cheap(cls, threshold=threshold, max_iter=9)
    gone, rest = files[2:], files[:2]
    detector.set_callbacks(Vanishing(gone, epoch=2))
    with pytest.raises(FileNotFoundError, match=r"image \d is gone: .*\d\.png"):
        detector.fit(files)
    # The epoch that found it out was not the one after: images stay in memory for an epoch.
    assert detector.n_iter_ == len(detector.loss_curve_) >= 2
    assert not detector.network_.training
    expected = -np.percentile(detector.score_samples(rest), 1) if threshold is None else threshold
    assert detector.threshold_ == expected
    assert len(detector.transform(rest)) == 2


def test_the_network_is_that_of_the_last_epoch(files):
    detector = cheap(cls=VAEDetector, max_iter=9).set_callbacks(Vanishing(files, epoch=2))
    originals = [io.imread(file) for file in files]
    with pytest.raises(FileNotFoundError):
        detector.fit(files)
    expected = network_after(detector.n_iter_, originals, cls=VAEDetector, max_iter=9)
    weights = expected.network_.state_dict()
    for name, tensor in detector.network_.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_no_threshold_when_nothing_can_be_read(files):
    detector = cheap().fit(files)
    with pytest.raises(FileNotFoundError):
        detector.set_params(max_iter=9).set_callbacks(Vanishing(files, epoch=1)).fit(files)
    # The threshold of the first fit is none for the second's network.
    assert not hasattr(detector, "threshold_") and hasattr(detector, "network_")
    with pytest.raises(NotFittedError):
        detector.predict(IMAGES)


def test_an_error_in_the_first_epoch_leaves_the_detector_as_it_was(cls, monkeypatch):
    def fail(self, batches):
        next(iter(batches))
        raise OSError("gone")

    detector = cheap(cls).fit(IMAGES)
    before = pickle.dumps(detector)
    new = cheap(cls)
    monkeypatch.setattr(Trainer, "_run_steps", fail)
    for estimator, X in [(detector, IMAGES[:, 1:, 1:] / 7.0), (new, IMAGES)]:
        with pytest.raises(OSError, match="gone"):
            estimator.fit(X)
    assert_same_model(detector, pickle.loads(before))
    assert detector.image_shape_ == (20, 24) and detector.predict(IMAGES).shape == (10,)
    assert not hasattr(new, "network_") and not hasattr(new, "n_features_in_")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_that_goes_on_and_fails(method, monkeypatch):
    detector = cheap(warm_start=True).fit(IMAGES)
    before = pickle.loads(pickle.dumps(detector))
    step, steps = torch.optim.Adam.step, []

    def fail(optimizer, closure=None):
        steps.append(1)
        if len(steps) == 3:
            raise RuntimeError("broken")
        return step(optimizer, closure)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", fail)
        with pytest.raises(RuntimeError, match="broken"):
            getattr(detector, method)(IMAGES)
    assert_same_model(detector, before)
    assert_same_model(getattr(detector, method)(IMAGES), getattr(before, method)(IMAGES))
