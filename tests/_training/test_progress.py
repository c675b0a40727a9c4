"""When training stops early."""

import numpy as np
import pytest

from sklearn_ssimae._training.progress import EarlyStopping


def epochs_until_stop(losses, tol=0.1, n_iter_no_change=3, counts=None):
    stopping = EarlyStopping(tol, n_iter_no_change)
    counts = [True] * len(losses) if counts is None else counts
    for epoch, (loss, count) in enumerate(zip(losses, counts, strict=True), start=1):
        if stopping.update(loss, count):
            return epoch
    return None


def test_a_loss_that_falls_by_more_than_tol_goes_on():
    assert epochs_until_stop(np.arange(50, 0, -0.11)) is None


def test_a_loss_that_falls_by_less_than_tol_stops():
    # The best loss so far counts, not the last one.
    stop = epochs_until_stop([5.0, 4.0, 4.05, 3.95, 4.5, 4.4, 4.3, 4.2, 4.1])
    assert stop in (5, 6)


def test_an_improvement_starts_the_count_anew():
    assert epochs_until_stop([5.0, 5.0, 5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 2.0]) is None


def test_epochs_that_do_not_count():
    losses = [5.0] * 30
    assert epochs_until_stop(losses, counts=[False] * 30) is None
    assert epochs_until_stop(losses, counts=[False] * 20 + [True] * 10) in (23, 24)


def mlp_rule(losses, tol, n_iter_no_change):
    """BaseMultilayerPerceptron._update_no_improvement_count and what follows it."""
    best, stale = np.inf, 0
    for epoch, loss in enumerate(losses, start=1):
        stale = stale + 1 if loss > best - tol else 0
        best = min(best, loss)
        if stale > n_iter_no_change:
            return epoch
    return None


@pytest.mark.parametrize(
    "losses",
    [[5.0] * 20, list(np.arange(20, 0, -0.5)), [3, 2, 2.5, 1.9, 2.2, 1.8, 2, 2, 2]],
)
@pytest.mark.parametrize("tol", [0.0, 0.125, 0.5])
def test_rule_is_that_of_mlp_classifier(losses, tol):
    stopping = EarlyStopping(tol, 3)
    stop = next((e for e, loss in enumerate(losses, 1) if stopping.update(loss, True)), None)
    assert stop == mlp_rule(losses, tol, 3)
