"""The snippets of the page on other tools: all compile; those of tools that tests have run."""

import ast
import importlib.util
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "docs/tools.md"
SETUP, *SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S)
# What the extra `test` does not bring.
FOREIGN = {"mlflow", "nonconform", "optuna", "pyod", "pythresh"}

# A few steps of training converge to nothing.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def imported(source):
    nodes = list(ast.walk(ast.parse(source)))
    names = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def first_import(source):
    return source.split()[1]


OURS = [snippet for snippet in SNIPPETS if not imported(snippet) & FOREIGN]


def test_every_foreign_tool_has_a_snippet():
    assert set().union(*map(imported, SNIPPETS)) >= FOREIGN


@pytest.mark.parametrize("snippet", [SETUP, *SNIPPETS], ids=first_import)
def test_names_of_this_package_exist(snippet):
    """All compile, and what they import of this package is there."""
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sklearn_ssimae"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names)


@pytest.fixture(scope="module")
def names():
    """What the first snippet of the page leaves behind."""
    exec(SETUP, names := {})
    return names


@pytest.mark.parametrize("snippet", OURS, ids=first_import)
def test_snippet_runs(snippet, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(snippet, result := dict(names))
    plt.close("all")
    scores = {
        "pandas": lambda: result["frame"]["score"],
        "sklearn": lambda: result.get("watched", result["detector"]).score_samples(result["test"]),
        "dask": lambda: result["scores"],
    }
    tool = min(imported(snippet) & set(scores))
    values = np.asarray(scores[tool]())
    assert values.shape == (6,)
    assert np.isfinite(values).all()
