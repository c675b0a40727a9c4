"""The documentation is complete: pages of all public names, examples in all docstrings."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
# Modules whose names are public, and the names that users are to call.
PUBLIC = {
    "sklearn_ssimae": [
        "FMAEDetector",
        "L2AutoencoderDetector",
        "ResidualThresholder",
        "SSIMAutoencoderDetector",
        "VAEDetector",
        "ssim_components",
        "ssim_map",
    ],
    "sklearn_ssimae.datasets": [
        "add_synthetic_defects",
        "list_images",
        "load_mvtec_ad",
        "make_checkerboards",
        "make_fabric",
        "make_patch_pairs",
    ],
    "sklearn_ssimae.export": ["to_onnx"],
    "sklearn_ssimae.inspection": [
        "DetectabilityDisplay",
        "DriftMonitor",
        "PixelCurveDisplay",
        "ResidualMapDisplay",
        "SSIMComponentsDisplay",
        "ThresholdDisplay",
        "detectability",
        "find_defects",
        "write_report",
    ],
    "sklearn_ssimae.metrics": [
        "iou_score",
        "located_score",
        "pixel_average_precision_score",
        "pixel_roc_auc_score",
        "pro_auc_score",
    ],
    "sklearn_ssimae.model_selection": [
        "LockingMemory",
        "pixel_scorer",
        "synthetic_defect_scorer",
    ],
}
NAMES = [(module, name) for module, names in PUBLIC.items() for name in names]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module):
    """`__all__`, where there is one, holds what is documented."""
    names = getattr(importlib.import_module(module), "__all__", PUBLIC[module])
    assert sorted(set(names) - {"__version__"}) == PUBLIC[module]


def test_reference_lists_all():
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    listed = []
    for part in re.split(r"^\.\. currentmodule:: ", text, flags=re.M)[1:]:
        module, _, rest = part.partition("\n")
        listed += [(module, name) for name in re.findall(r"^   (\w+)$", rest, flags=re.M)]
    assert sorted(listed) == sorted(NAMES)


def test_docstrings_have_examples():
    for module, name in NAMES:
        docstring = inspect.getdoc(getattr(importlib.import_module(module), name))
        assert "\n>>> " in docstring, name
        assert "\nExamples\n--------\n" in docstring, name


def test_files_that_pages_name_exist():
    """Sphinx checks links within the site; this is for those who read the files."""
    for page in [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            # Made by the build of the documentation.
            if not target.startswith("auto_examples/"):
                assert (page.parent / target).exists(), (page.name, target)
