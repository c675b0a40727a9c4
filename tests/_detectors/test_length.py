"""max_iter=None: how long a fit trains follows from the material."""

import numpy as np
import pytest
import torch
from killed import IMAGES, assert_same_model, leave_checkpoint, n_epochs_run
from shared import cheap
from sklearn.base import clone
from sklearn.callback import ProgressBar

from sklearn_ssimae import FMAEDetector, L2AutoencoderDetector, SSIMAutoencoderDetector
from sklearn_ssimae._detectors import fit, ssim
from sklearn_ssimae._detectors.fit import Fit
from sklearn_ssimae._training import length
from sklearn_ssimae._training.probe import Probe
from sklearn_ssimae._training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SHORT, LONG, JUDGED_AFTER = 5, 9, 3
TRUE = (length.EPOCHS, length.MORE_EPOCHS, length.JUDGED_AFTER, length.HARD)
FEW, GLANCED_AFTER = length.FEW_EPOCHS, length.GLANCED_AFTER


@pytest.fixture(autouse=True)
def lengths_that_take_no_time(monkeypatch):
    for name, value in {
        "EPOCHS": SHORT,
        "MORE_EPOCHS": LONG,
        "FEW_EPOCHS": 4,
        "GLANCED_AFTER": 2,
        "JUDGED_AFTER": JUDGED_AFTER,
    }.items():
        for module in (fit, length):
            monkeypatch.setattr(module, name, value, raising=False)


def let_remain(monkeypatch, *shares):
    """Let the probe say these after one epoch and the next, the last one from then on."""
    left = list(shares)
    monkeypatch.setattr(Probe, "remaining", lambda _: left.pop(0) if len(left) > 1 else left[0])


def open_ended(cls=L2AutoencoderDetector, **params):
    return cheap(cls, max_iter=None, **params)


def rates_of(detector, monkeypatch):
    """The learning rate of every step of a fit, over the highest."""
    rates, step = [], Trainer._loss

    def note(trainer, batch):
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        return step(trainer, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_loss", note)
        detector.fit(IMAGES)
    return np.array(rates) / detector.learning_rate_init


def test_the_docstring_states_the_lengths(cls):
    assert cls().max_iter is None
    told = " ".join(cls.__doc__.split())
    n_epochs, more, judged_after, hard = TRUE
    assert f"None: {n_epochs}, {more} where more than a fifth of the mean" in told
    assert f"or {FEW} where less than a tenth of kept images' local contrast is redrawn" in told
    assert f"after {GLANCED_AFTER} of them" in told
    assert length.LITTLE == 1 / 10
    assert f"is left after {judged_after} of them" in told
    assert hard == 1 / 5
    # Judged before a trapezoid of the shorter length falls.
    assert JUDGED_AFTER == 0.6 * SHORT and TRUE[2] == 0.6 * TRUE[0]
    assert GLANCED_AFTER < 0.6 * FEW


def test_material_of_which_little_can_be_learnt_trains_briefly(cls, monkeypatch, capsys):
    """The rate falls sooner, as with so many epochs."""
    let_remain(monkeypatch, 0.9)
    monkeypatch.setattr(length, "_LEAST_CROPS", 0)
    monkeypatch.setattr(Fit, "_share_predicted_of_kept", lambda _: 0.09)
    detector = open_ended(cls, verbose=1).fit(IMAGES)
    assert detector.n_iter_ == (SHORT if cls is FMAEDetector else 4)
    line = "4 epochs instead of 5: 9% of the local contrast of kept images is redrawn"
    assert capsys.readouterr().out.count(line) == (cls is not FMAEDetector)


@pytest.mark.parametrize(("predicted", "n_crops"), [(0.1, 5000), (0.09, 4999), (np.nan, 5000)])
def test_what_is_predicted_or_has_seen_few_crops_is_not_shortened(predicted, n_crops):
    assert length.glance(predicted, n_crops) is None
    assert length.glance(0.09, 5000).n_epochs == 4


@pytest.mark.parametrize(("drawn", "share"), [(lambda x: x, 1.0), (torch.zeros_like, 0.0)])
def test_the_share_is_that_of_kept_images(drawn, share, monkeypatch):
    seen = []

    def reconstruct(patches):
        seen.append(patches)
        return drawn(patches)

    class Glancing(Fit):
        def _judged_length(self):
            monkeypatch.setattr(self.progress.trainer.probe, "reconstruct", reconstruct)
            self.share = self._share_predicted_of_kept()
            monkeypatch.undo()

    fitting = Glancing(cheap(max_iter=None, n_patches=64), IMAGES, None)
    fitting.n_epochs = 1
    fitting.run()
    assert fitting.share == pytest.approx(share)
    kept = torch.from_numpy(np.stack([IMAGES[part.image] for part in fitting.division.kept]))
    values = set((kept.float() / 255).unique().tolist())
    assert set(seen[0].unique().tolist()) <= values


def lengthened(cls):
    return SHORT if cls is FMAEDetector else LONG


def test_an_easy_material_trains_as_with_so_many_epochs(cls, monkeypatch):
    let_remain(monkeypatch, 0.2)
    detector = open_ended(cls).fit(IMAGES)
    assert detector.n_iter_ == SHORT
    assert_same_model(detector, cheap(cls, max_iter=SHORT).fit(IMAGES))


def test_a_hard_material_trains_longer_but_with_features(cls, monkeypatch, capsys):
    let_remain(monkeypatch, 0.21)
    detector = open_ended(cls, verbose=1).fit(IMAGES)
    assert detector.n_iter_ == len(detector.loss_curve_) == lengthened(cls)
    assert np.isfinite(detector.score_samples(IMAGES)).all()
    output = capsys.readouterr().out
    line = "9 epochs instead of 5: 21% of the mean image's residual is left, more than 20%"
    assert output.count(line) == (cls is not FMAEDetector)
    assert "epoch 3/5," in output and f"epoch 4/{lengthened(cls)}," in output


def test_only_what_is_left_after_some_epochs_counts(monkeypatch):
    let_remain(monkeypatch, *[0.9] * (JUDGED_AFTER - 1), 0.1, 0.9)
    assert open_ended().fit(IMAGES).n_iter_ == SHORT
    let_remain(monkeypatch, *[0.1] * (JUDGED_AFTER - 1), 0.9, 0.1)
    assert open_ended().fit(IMAGES).n_iter_ == LONG


def test_a_number_is_not_changed(monkeypatch):
    let_remain(monkeypatch, 0.9)
    assert cheap(max_iter=4).fit(IMAGES).n_iter_ == 4


def test_a_number_of_numpy_and_a_checkpoint(tmp_path):
    """As searches set it: `torch.load` takes no numbers of NumPy's from the file."""
    detector = cheap(max_iter=np.int64(SHORT), checkpoint=tmp_path / "fit.checkpoint")
    leave_checkpoint(detector, IMAGES, n_epochs=2)
    resumed = clone(detector)
    assert n_epochs_run(resumed, IMAGES) == SHORT - 2
    assert_same_model(resumed, cheap(max_iter=SHORT).fit(IMAGES))


def test_partial_fit_stays_one_epoch(monkeypatch):
    let_remain(monkeypatch, 0.9)
    detector = open_ended()
    for _ in range(JUDGED_AFTER + 1):
        detector.partial_fit(IMAGES)
    assert detector.n_iter_ == JUDGED_AFTER + 1


def test_a_fit_that_goes_on_is_judged_anew(monkeypatch):
    let_remain(monkeypatch, 0.9)
    detector = open_ended(warm_start=True).fit(IMAGES)
    assert detector.n_iter_ == LONG
    let_remain(monkeypatch, 0.1)
    assert detector.fit(IMAGES).n_iter_ == LONG + SHORT


def test_the_rate_falls_later(monkeypatch):
    """No step up or down where the fit is lengthened."""
    let_remain(monkeypatch, 0.9)
    rates = rates_of(open_ended(n_patches=320), monkeypatch)
    n_steps = 10 * LONG
    assert len(rates) == n_steps
    # The climb is the short fit's: 5 % of 50 steps.
    np.testing.assert_allclose(rates[:3], [1 / 2.5, 2 / 2.5, 1])
    fall = n_steps - int(0.4 * n_steps)
    np.testing.assert_allclose(rates[3:fall], 1)
    np.testing.assert_allclose(rates[fall:], np.arange(36, 0, -1) / 36)


def test_early_stopping_waits_for_the_later_fall(monkeypatch):
    let_remain(monkeypatch, 0.9)
    stale = dict(tol=10.0, n_iter_no_change=1)
    assert cheap(max_iter=SHORT, **stale).fit(IMAGES).n_iter_ == 4
    # The rate falls after 5.4 epochs of nine: the sixth counts, and the seventh is one too many.
    assert open_ended(**stale).fit(IMAGES).n_iter_ == 7


def test_a_resumed_fit_ends_with_the_same_model(cls, tmp_path, monkeypatch):
    let_remain(monkeypatch, 0.9)
    expected = open_ended(cls).fit(IMAGES)
    for n_epochs in (JUDGED_AFTER, lengthened(cls) - 1):
        detector = open_ended(cls, checkpoint=tmp_path / "fit.checkpoint")
        leave_checkpoint(detector, IMAGES, n_epochs=n_epochs)
        resumed = clone(detector)
        assert n_epochs_run(resumed, IMAGES) == lengthened(cls) - n_epochs
        assert_same_model(resumed, expected)


@pytest.mark.parametrize(
    ("share", "params", "n_epochs"),
    [(0.1, {}, SHORT), (0.9, {"learning_rate": "constant"}, LONG)],
)
def test_other_resumed_fits(share, params, n_epochs, tmp_path, monkeypatch):
    let_remain(monkeypatch, share)
    detector = open_ended(checkpoint=tmp_path / "fit.checkpoint", **params)
    leave_checkpoint(detector, IMAGES, n_epochs=JUDGED_AFTER)
    resumed = clone(detector)
    assert n_epochs_run(resumed, IMAGES) == n_epochs - JUDGED_AFTER
    assert_same_model(resumed, open_ended(**params).fit(IMAGES))


def test_ctrl_c_in_a_lengthened_fit_and_on(tmp_path, monkeypatch):
    let_remain(monkeypatch, 0.9)
    detector = open_ended(checkpoint=tmp_path / "fit.checkpoint")
    with monkeypatch.context() as patched:
        run_epoch = Trainer.run_epoch
        left = [SHORT + 1]

        def interrupted(trainer, batches):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return run_epoch(trainer, batches)

        patched.setattr(Trainer, "run_epoch", interrupted)
        assert clone(detector).fit(IMAGES).n_iter_ == SHORT + 1
    resumed = clone(detector)
    assert n_epochs_run(resumed, IMAGES) == LONG - SHORT - 1
    assert_same_model(resumed, open_ended().fit(IMAGES))


class Watching:
    """A callback that asks for a detector that predicts after each epoch, and may stop the fit."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        assert fitted_estimator.predict(IMAGES).shape == (10,)
        return context.task_name == f"epoch {self.stop_after}"


def test_a_map_that_is_chosen_on_the_way_alters_nothing(monkeypatch):
    """Large constants of SSIM's would leave next to nothing of the residual."""
    monkeypatch.setattr(ssim, "_USUAL", [{"c1": 100.0, "c2": 100.0}])
    lengths = {}
    for name, callbacks in {"none": [], "one": [Watching()]}.items():
        noted = []
        run_epoch = Trainer.run_epoch

        def note(trainer, batches, run_epoch=run_epoch, noted=noted):
            loss = run_epoch(trainer, batches)
            noted.append(trainer.remaining)
            return loss

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "run_epoch", note)
            detector = open_ended(SSIMAutoencoderDetector, map_blur=0, map_window_size=11)
            detector.set_callbacks(*callbacks).fit(IMAGES)
        lengths[name] = (detector.n_iter_, noted)
    assert lengths["none"] == lengths["one"]
    assert lengths["none"][0] == LONG
    assert detector.c1_ == 100.0


def test_a_fit_that_is_stopped_when_it_is_judged_is_not_lengthened(monkeypatch, capsys):
    let_remain(monkeypatch, 0.9)
    detector = open_ended(verbose=1).set_callbacks(Watching(stop_after=JUDGED_AFTER))
    assert detector.fit(IMAGES).n_iter_ == JUDGED_AFTER
    assert "instead of" not in capsys.readouterr().out


def test_processes_agree(monkeypatch):
    """What the first one's probe says counts in all."""
    let_remain(monkeypatch, 0.1)
    agree = fit.join_ranks().agree
    monkeypatch.setattr(
        "sklearn_ssimae._training.ranks.Ranks.agree",
        lambda self, value: 0.9 if value == 0.1 else agree(value),
    )
    assert open_ended().fit(IMAGES).n_iter_ == LONG


def test_a_progress_bar_has_room_for_the_longer_fit(monkeypatch):
    let_remain(monkeypatch, 0.9)
    detector = open_ended().set_callbacks(ProgressBar()).fit(IMAGES)
    assert detector.n_iter_ == LONG


def test_a_material_that_cannot_be_learnt_trains_long_and_one_that_can_does_not():
    """Noise, of which nothing can be told from anything else, against flat images."""
    noise = np.random.default_rng(0).random((10, 32, 32))
    assert open_ended().fit(noise).n_iter_ == LONG
    assert open_ended().fit(np.full((10, 32, 32), 0.4)).n_iter_ == SHORT


@pytest.mark.parametrize("value", [0, -1, 1.5, "auto"])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match=r"'max_iter' parameter.*int in the range.*or None"):
        open_ended().set_params(max_iter=value).fit(IMAGES)


def test_what_is_learnt_before_the_judgement_is_the_same(monkeypatch):
    losses = []
    for share in (0.1, 0.9):
        let_remain(monkeypatch, share)
        losses.append(open_ended(n_patches=64).fit(IMAGES).loss_curve_)
    easy, hard = losses
    assert easy[:JUDGED_AFTER] == hard[:JUDGED_AFTER]
    # After it the rate falls in one and not yet in the other.
    assert easy[-1] != hard[SHORT - 1]
