"""Messages about what is not installed name packages and extras that there are."""

import tomllib
from pathlib import Path

import pytest

from sklearn_ssimae._extras import PACKAGES, install_hint

EXTRAS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]["optional-dependencies"]


@pytest.mark.parametrize("extra", PACKAGES)
def test_the_packages_are_those_of_the_extra(extra):
    assert PACKAGES[extra].split() == [package.split(">=")[0] for package in EXTRAS[extra]]


def test_the_hint_names_no_package_that_is_not_published():
    assert install_hint("skops") == (
        "Run pip install skops, or, in the folder of this package's source code, "
        'pip install -e ".[skops]".'
    )


def test_no_message_has_a_hint_of_its_own():
    package = Path(__file__).parents[1] / "sklearn_ssimae"
    texts = {path.name: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [name for name, text in texts.items() if "pip install" in text] == ["_extras.py"]
