"""Settings of the documentation: https://www.sphinx-doc.org/en/master/usage/configuration.html."""

import os
import runpy
import sys
from pathlib import Path

import sklearn_ssimae
from sklearn_ssimae._detectors.docs import DOCUMENTATION_URL

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "sklearn-ssimae"
author = "The sklearn-ssimae developers"
copyright = author
version = release = sklearn_ssimae.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "myst_parser",
    "numpydoc",
    "parameter_tables",
    "sphinx_argparse_cli",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_ext", "benchmarks/*"]
templates_path = ["_templates"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "dollarmath", "substitution"]
# Published, the site is built from a repository that it can link to.
SOURCE = os.environ.get("READTHEDOCS_GIT_CLONE_URL", "").removesuffix(".git")
myst_substitutions = {
    "version": version,
    "install": '<a class="sd-btn sd-btn-primary" href="start.html#install">Install</a>',
    "source": (
        '<a class="sd-btn sd-btn-outline-primary" '
        f'href="{SOURCE or "_modules/index.html"}">Source code</a>'
    ),
}
# Links may name a heading: page.md#heading.
myst_heading_anchors = 3

autosummary_generate = True
# Signatures show defaults; types are in the text below them.
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
# "On this page" has room for `fit()`, and not for the name of the class before it.
toc_object_entries_show_parents = "hide"

numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "all",
    "ES01",  # a summary that says all needs no more
    "EX01",  # methods: the example of the class shows them
    "GL01",  # the summary begins on the line of the quotes, as ruff has it
    "GL08",  # ruff demands docstrings of what is public
    "RT02",  # return values have names, as scikit-learn's
    "RT03",  # a return value whose type says all
    "RT04",  # the parts of a Bunch have names too
    "SA01",  # see also, where there is something to see
    "SA04",
    "SS05",  # takes plural nouns for verbs
    "SS06",
    "YD01",
}
# Inherited from scikit-learn, whose docstrings are not ours.
numpydoc_validation_exclude = {r"\.set_callbacks$"}

# Other projects' inventories come over the network, where the site is published only.
intersphinx_mapping = (
    {
        "joblib": ("https://joblib.readthedocs.io/en/latest/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "python": ("https://docs.python.org/3/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "sklearn": ("https://scikit-learn.org/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
    if "READTHEDOCS" in os.environ
    else {}
)
nitpick_ignore_regex = [("py:.*", r"(joblib|matplotlib|numpy|scipy|skimage|sklearn|torch)\..*")]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # fabric.py trains for minutes and writes a file, score_with_dask.py starts processes: they are
    # shown and not run. report_of_cloth.py is run below, in builds without the others too.
    "filename_pattern": r"/(plot_|choose_|compare_threshold_|score_with_onnx)",
    "ignore_pattern": r"__init__\.py",
    "doc_module": ("sklearn_ssimae",),
    "backreferences_dir": "generated",
    "reference_url": {"sklearn_ssimae": None},
    "min_reported_time": 1,
    "show_memory": False,
    "remove_config_comments": True,
    "plot_gallery": "True",  # -D plot_gallery=0 builds without running any
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn-ssimae"
html_baseurl = DOCUMENTATION_URL
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "sklearn-ssimae"},
    "navbar_align": "left",
    "navigation_depth": 3,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "icon_links": (
        [{"name": "Source code", "url": SOURCE, "icon": "fa-solid fa-code"}] if SOURCE else []
    ),
}
# Pages that stand for themselves: their side bar would be empty.
_ALONE = ("index", "start", "comparison", "genindex", "search")
html_sidebars = {page: [] for page in _ALONE}


def write_report_of_cloth(app, exception):
    """The report that the page "The report" shows; takes seconds, and once for a folder."""
    path = Path(app.outdir) / "report_of_cloth.html"
    if exception is None and app.builder.name == "html" and not path.exists():
        example = Path(app.srcdir).parent / "examples" / "report_of_cloth.py"
        runpy.run_path(str(example))["main"](path)


def setup(app):
    app.connect("build-finished", write_report_of_cloth)
