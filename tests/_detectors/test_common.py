"""scikit-learn's own checks, none of them skipped."""

import pytest
from sklearn.utils import estimator_checks

from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    SSIMAutoencoderDetector,
    VAEDetector,
)

N_CHECKS = 53
# Rows of a few features, padded to the smallest patch. scikit-learn's own tests cheapen their
# iterative estimators as well. Most of a battery are the maps of 300 rows of two features: nothing
# is smoothed or opened in them.
CHEAP = {
    **{"patch_size": 16, "latent_dim": 4, "n_patches": 8, "max_iter": 1, "contamination": 0.1},
    **{"smoothing": 0.0, "opening_diameter": None},
}
DETECTORS = [
    L2AutoencoderDetector(**CHEAP),
    SSIMAutoencoderDetector(**CHEAP),
    VAEDetector(**CHEAP, n_latent_samples=2),
    FMAEDetector(**CHEAP, feature_extractor="efficientnet_lite0"),
]
IDS = [type(detector).__name__ for detector in DETECTORS]
NOT_YIELDED = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_param_validation,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]

pytestmark = [
    # One epoch of one step converges to nothing.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Some checks fit on a DataFrame and go on with its array.
    pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names"),
    # The checks call score with targets that hold no defect.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
]


# A battery takes as long as hundreds of other tests: one of them, the quickest, is not slow.
@pytest.mark.parametrize(
    "detector",
    [DETECTORS[0], *(pytest.param(detector, marks=pytest.mark.slow) for detector in DETECTORS[1:])],
    ids=IDS,
)
def test_all_checks(detector):
    """The battery, and that none of it was skipped."""
    results = estimator_checks.check_estimator(detector, on_skip=None, on_fail="raise")
    assert len(results) == N_CHECKS
    assert {result["status"] for result in results} == {"passed"}


@pytest.mark.parametrize("check", NOT_YIELDED, ids=lambda check: check.__name__)
@pytest.mark.parametrize("detector", DETECTORS, ids=IDS)
def test_checks_that_are_not_yielded(detector, check):
    check(type(detector).__name__, detector)
