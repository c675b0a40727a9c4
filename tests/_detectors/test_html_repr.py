"""scikit-learn's diagram of an estimator, as notebooks show it."""

import pytest
from sklearn.pipeline import Pipeline

import sklearn_ssimae
from sklearn_ssimae import ResidualThresholder, SSIMAutoencoderDetector
from sklearn_ssimae._detectors.docs import DOCUMENTATION_URL

ESTIMATORS = [name for name in sklearn_ssimae.__all__ if name[0].isupper()]


def address(name):
    return f"{DOCUMENTATION_URL}generated/sklearn_ssimae.{name}.html"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_diagram_links_to_the_documentation(name):
    estimator = getattr(sklearn_ssimae, name)()
    html = estimator._repr_html_()
    assert f'href="{address(name)}"' in html
    assert "scikit-learn.org" not in estimator._get_doc_link()


def test_diagram_of_a_pipeline():
    pipeline = Pipeline(
        [("detector", SSIMAutoencoderDetector(window_size=7)), ("mask", ResidualThresholder())]
    )
    html = pipeline._repr_html_()
    assert f'href="{address("SSIMAutoencoderDetector")}"' in html
    assert f'href="{address("ResidualThresholder")}"' in html
    assert "window_size" in html


def test_estimators_of_others_link_nowhere():
    class Mine(SSIMAutoencoderDetector):
        """A detector outside this package."""

    assert Mine()._get_doc_link() == ""
