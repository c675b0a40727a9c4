"""The examples of the public names whose module is the package: pytest looks for them in vain."""

import doctest

import pytest

import sklearn_ssimae


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", [name for name in sklearn_ssimae.__all__ if name[0].isupper()])
def test_examples(name):
    (test,) = (
        test
        for test in doctest.DocTestFinder(recurse=False).find(
            getattr(sklearn_ssimae, name), name, module=False
        )
    )
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
    )
    results = runner.run(test)
    assert results.attempted > 3
    assert results.failed == 0
