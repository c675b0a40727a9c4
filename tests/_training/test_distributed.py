"""Two processes that train one network, started by torchrun."""

import os
import signal
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skimage import data

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector, VAEDetector
from sklearn_ssimae._training.ranks import Ranks, device_of_rank, join_ranks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# As the processes that are started here do.
DRAWS_ALL_DEFECTS = True

# 50 crops in batches of 8 leave two; the second process has one of them. 33 leave one crop, of
# which the second process has nothing.
PARAMETERS = dict(
    patch_size=16,
    latent_dim=4,
    max_iter=6,
    stride=16,
    random_state=0,
    # Larger steps magnify what numbers are rounded to.
    learning_rate_init=5e-4,
)
PREAMBLE = """
    import os, sys, joblib, numpy as np, torch, warnings
    from skimage import data
    from sklearn_ssimae import *
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rank, folder = int(os.environ["RANK"]), sys.argv[1]
    X = np.stack([data.gravel()[24 * i : 24 * i + 24, 23 * i : 23 * i + 32] for i in range(12)])
    parameters = dict(patch_size=16, latent_dim=4, max_iter=6, stride=16, random_state=0)
    parameters["learning_rate_init"] = 5e-4
"""


def images():
    return np.stack([data.gravel()[24 * i : 24 * i + 24, 23 * i : 23 * i + 32] for i in range(12)])


def run(folder, code):
    """Run code in two processes. Returns what torchrun returned and printed."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(PREAMBLE) + textwrap.dedent(code))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [sys.executable, *launch, str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return result.returncode, result.stdout, result.stderr


def assert_same_detector(one, other):
    assert one.loss_curve_ == other.loss_curve_
    assert one.threshold_ == other.threshold_ and one.offset_ == other.offset_
    for name, tensor in one.network_.state_dict().items():
        assert torch.equal(other.network_.state_dict()[name], tensor)


@pytest.mark.slow
def test_two_processes_train_as_one_of_twice_the_batch(tmp_path):
    code = """
        for name, detector in {
            "ssim": SSIMAutoencoderDetector(n_patches=50, batch_size=4, **parameters),
            "l2": L2AutoencoderDetector(n_patches=33, batch_size=4, verbose=1, **parameters),
            "vae": VAEDetector(n_patches=32, batch_size=4, **parameters),
        }.items():
            if name == "l2":
                detector.set_params(checkpoint=folder)
            joblib.dump(detector.fit(X), f"{folder}/{name}{rank}")
        # Of no seed, and a second fit that goes on.
        detector = L2AutoencoderDetector(**{**parameters, "random_state": None}, n_patches=32)
        detector.fit(X).set_params(warm_start=True, max_iter=1).fit(X)
        joblib.dump(detector, f"{folder}/unseeded{rank}")
    """
    status, output, errors = run(tmp_path, code)
    assert status == 0, errors
    assert output.count("epoch 6/6") == 1  # the first process alone prints
    found = {}
    for name in ["ssim", "l2", "vae", "unseeded"]:
        found[name], other = (joblib.load(tmp_path / f"{name}{rank}") for rank in range(2))
        assert_same_detector(found[name], other)
    for name, detector in {
        "ssim": SSIMAutoencoderDetector(n_patches=50, batch_size=8, **PARAMETERS),
        "l2": L2AutoencoderDetector(n_patches=33, batch_size=8, **PARAMETERS),
    }.items():
        expected = detector.fit(images())
        assert len(set(expected.loss_curve_)) == 6
        # Directions of a gradient that are all but absent get steps as large as the others: what
        # they were rounded to is magnified, as it is in one process that takes the patches of
        # each batch in another order.
        assert_allclose(found[name].loss_curve_[0], expected.loss_curve_[0], rtol=1e-3)
        assert_allclose(found[name].loss_curve_, expected.loss_curve_, rtol=2e-2)
        assert_allclose(found[name].threshold_, expected.threshold_, rtol=1e-2)
        assert_allclose(
            found[name].transform(images()), expected.transform(images()), rtol=0.2, atol=1e-3
        )
    # Noise of its own on each process: alike, but no more.
    vae = VAEDetector(n_patches=32, batch_size=8, **PARAMETERS).fit(images())
    assert_allclose(found["vae"].loss_curve_, vae.loss_curve_, rtol=0.1, atol=0.05)


@pytest.mark.slow
def test_images_dealt_out_to_the_processes_are_refused(tmp_path):
    code = """
        detector = L2AutoencoderDetector(n_patches=32, batch_size=4 + rank, **parameters)
        try:
            detector.fit(X[: 8 + rank])
        except ValueError as error:
            open(f"{folder}/error{rank}", "w").write(str(error))
        same_number = X[::2] if rank == 0 else X[1::2]
        try:
            detector.set_params(batch_size=4).fit(same_number)
        except ValueError as error:
            open(f"{folder}/values{rank}", "w").write(str(error))
    """
    status, _, errors = run(tmp_path, code)
    assert status == 0, errors
    for rank in range(2):
        message = (tmp_path / f"error{rank}").read_text()
        assert "batch_size is 4 on rank 0 and 5 on rank 1" in message
        assert "the number of images is 8 on rank 0 and 9 on rank 1" in message
        assert "Give every process the same parameters and all images" in message
        message = (tmp_path / f"values{rank}").read_text()
        assert "what crops of the images hold" in message and "batch_size" not in message


@pytest.mark.slow
def test_interrupted_and_resumed(tmp_path):
    code = """
        import signal

        from sklearn_ssimae._detectors.fit import Fit

        run_epoch = Fit._run_epoch

        def interrupting(fit, epoch):
            loss = run_epoch(fit, epoch)
            if rank == 0 and epoch == 2 and not os.path.exists(f"{folder}/l20"):
                os.kill(os.getpid(), signal.SIGINT)  # of the first process alone
            return loss

        Fit._run_epoch = interrupting
        parameters.update(max_iter=6, n_patches=32, batch_size=4, checkpoint=f"{folder}/saved")
        interrupted = L2AutoencoderDetector(**parameters).fit(X)
        joblib.dump(interrupted.loss_curve_, f"{folder}/curve{rank}")
        joblib.dump(None, f"{folder}/l2{rank}")
        torch.distributed.barrier()
        resumed = L2AutoencoderDetector(**parameters).fit(X)
        joblib.dump((resumed.loss_curve_, resumed.threshold_), f"{folder}/resumed{rank}")
    """
    status, _, errors = run(tmp_path, code)
    assert status == 0, errors
    first, second = (joblib.load(tmp_path / f"curve{rank}") for rank in range(2))
    assert len(first) == 3 and first == second
    assert not (tmp_path / "saved").exists()
    first, second = (joblib.load(tmp_path / f"resumed{rank}") for rank in range(2))
    assert first == second
    whole = L2AutoencoderDetector(**PARAMETERS, n_patches=32, batch_size=8).fit(images())
    assert_allclose(first[0], whole.loss_curve_, rtol=1e-2)


# A process alone ----------------------------------------------------------------------


def test_a_process_alone():
    ranks = join_ranks()
    assert (ranks.rank, ranks.size, ranks.is_first) == (0, 1, True)
    batch = torch.rand(5, 1, 2, 2)
    patches, weight = ranks.share(batch)
    assert torch.equal(patches, batch) and weight == 1
    assert ranks.agree("value") == "value" and ranks.mean(torch.tensor(2.5)) == 2.5
    network = torch.nn.Linear(1, 1)
    assert ranks.wrap(network) is network
    before = signal.getsignal(signal.SIGINT)
    with ranks.interrupted_together():
        assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("n_patches", [1, 2, 3, 7, 8])
def test_shares_make_up_the_batch(size, n_patches):
    batch = torch.rand(n_patches, 1, 2, 2)
    shares = [Ranks(rank, size).share(batch) for rank in range(size)]
    losses = [weight * patches.mean() for patches, weight in shares]
    assert_allclose(sum(losses) / size, batch.mean(), rtol=1e-5)
    assert sum(len(patches) for patches, weight in shares if weight > 0) == n_patches
    assert all(len(patches) >= 1 for patches, _ in shares)


def test_devices(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of_rank(torch.device("cpu")) == torch.device("cpu")
    assert device_of_rank(torch.device("cuda", 1)) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert device_of_rank(torch.device("cuda")) == torch.device("cuda", 1)


def test_noise_of_each_process_is_its_own():
    draws = []
    for rank in range(3):
        generator = torch.Generator().manual_seed(7)
        Ranks(rank, 3).spread(generator)
        draws.append(torch.randn(4, generator=generator).numpy())
    assert_array_equal(draws[0], torch.randn(4, generator=torch.Generator().manual_seed(7)))
    assert len({tuple(draw) for draw in draws}) == 3
