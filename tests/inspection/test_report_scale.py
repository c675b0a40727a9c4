"""The scale of a report: the levels that its threshold can take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sklearn_ssimae.inspection._report.scale import make_scale

SCORES = arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.floats(-1e6, 1e6, allow_subnormal=False),
)


@given(SCORES, st.floats(-1e6, 1e6, allow_subnormal=False), st.sampled_from([None, 0.0]))
def test_any_scores(scores, threshold, origin):
    low, high, levels = scale = make_scale(scores, threshold, origin)
    assert low < high
    assert len(levels) <= 254
    assert (np.diff(levels) > 0).all()
    assert threshold in levels
    assert levels[0] <= scores.min()
    assert levels[-1] >= scores.max()
    assert sum(scale.histogram(scores)) == len(scores)
    assert all(0 <= scale.position(value) <= 1 for value in [*scores, *scale.ticks()])
    # A level tells each two neighbours apart.
    ordered = np.unique(scores)
    assert (np.diff(np.searchsorted(levels, ordered)) > 0).all()


def test_round_numbers():
    levels = make_scale(np.array([0.2, 0.8]), 0.5).levels
    assert {0.3, 0.5, 0.7} <= set(levels)
    assert max(len(str(level)) for level in levels.tolist()) <= 5


@pytest.mark.parametrize("scores", [[2.0, 2.6], [0.0, 0.0], [5.0, 5.0]])
def test_begins_at_the_least_value_that_can_occur(scores):
    scale = make_scale(np.array(scores), scores[0], 0.0)
    assert scale.low == scale.levels[0] == 0
    assert scale.high > scale.low
    assert make_scale(np.array(scores), -1.0, 0.0).low == -1  # a threshold that was set


def test_extreme_scores_do_not_set_the_scale():
    scores = np.append(np.linspace(1, 2, 100), 1e6)
    scale = make_scale(scores, 1.9)
    assert 2 <= scale.high < 10
    assert scale.levels[-1] == 1e6
    assert scale.histogram(scores)[-1] == 1


def test_many_scores():
    scale = make_scale(np.random.default_rng(0).normal(size=5000), 1.0)
    assert len(scale.levels) <= 254
