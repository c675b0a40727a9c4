"""The directive `parameters`: tables of the detectors' parameters, in groups by what they are for.

::

    .. parameters:: SSIMAutoencoderDetector   names and defaults, a row a group
       :details:                              a table a group, with the first sentence of each text
       :additional:                           only what SSIMAutoencoderDetector does not have

Names, defaults and texts are those of the classes; only the groups are written here. A parameter
that is in no group ends the build.
"""

import inspect
import re
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from numpydoc.docscrape import NumpyDocString
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

import sklearn_ssimae

GROUPS = {
    "Start here": ("scale", "patch_size", "latent_dim", "max_iter", "random_state"),
    "The data": ("region", "image_shape", "data_range", "augment", "vary", "validation_fraction"),
    "The network and its loss": (
        *(
            "window_size",
            "window",
            "sigma",
            "c1",
            "c2",
            "alpha",
            "beta",
            "gamma",
            "map_window_size",
            "map_blur",
        ),
        *("n_latent_samples", "kl_weight", "feature_weight", "feature_extractor"),
    ),
    "Training": (
        *("n_patches", "batch_size", "learning_rate_init", "learning_rate", "weight_decay"),
        *("tol", "n_iter_no_change", "warm_start", "checkpoint"),
    ),
    "The map": (
        *("stride", "aggregate", "residual", "smoothing", "map_window_size", "map_blur"),
        *("opening_diameter", "min_area"),
    ),
    "Decisions": ("contamination", "threshold"),
    "Running": ("device", "precision", "verbose"),
}


def defaults_of(name):
    """Parameters of a class with their defaults, in the order of its signature."""
    signature = inspect.signature(getattr(sklearn_ssimae, name))
    defaults = {key: parameter.default for key, parameter in signature.parameters.items()}
    ungrouped = set(defaults).difference(*GROUPS.values())
    if ungrouped:
        raise ExtensionError(
            f"The parameters {sorted(ungrouped)} of {name} are in no group: add them to GROUPS in "
            f"{__file__}."
        )
    return defaults


def texts_of(name):
    """The first sentence that the docstring says of each parameter."""
    docstring = NumpyDocString(inspect.getdoc(getattr(sklearn_ssimae, name)))
    return {
        key: re.split(r"(?<=[^.])\.(?:\s|$)", " ".join(parameter.desc))[0].rstrip(".") + "."
        for parameter in docstring["Parameters"]
        for key in parameter.name.split(", ")
    }


def paragraph(text):
    """A paragraph in which what stands between backticks is code."""
    parts = re.split(r"`{1,2}([^`]+)`{1,2}", text)
    pieces = [
        nodes.literal(text=part) if i % 2 else nodes.Text(part) for i, part in enumerate(parts)
    ]
    return nodes.paragraph("", "", *pieces)


def table(header, rows, widths):
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=width) for width in widths]
    for part, lines in ((nodes.thead(), [header]), (nodes.tbody(), rows)):
        for line in lines:
            part += nodes.row("", *(nodes.entry("", paragraph(cell)) for cell in line))
        group += part
    return nodes.table("", group, classes=["parameters"])


class Parameters(SphinxDirective):
    """The directive."""

    required_arguments = 1
    optional_arguments = 3
    option_spec: ClassVar = {"details": directives.flag, "additional": directives.flag}

    def run(self):
        defaults, texts = {}, {}
        for name in self.arguments:
            defaults |= defaults_of(name)
            texts |= texts_of(name)
        if "additional" in self.options:
            common = defaults_of("SSIMAutoencoderDetector")
            defaults = {key: value for key, value in defaults.items() if key not in common}
        groups = {
            group: [name for name in names if name in defaults] for group, names in GROUPS.items()
        }
        if not self.options:
            rows = [
                [group, ", ".join(f"`{name}={defaults[name]!r}`" for name in names)]
                for group, names in groups.items()
                if names
            ]
            return [table(["group", "parameters and their defaults"], rows, [25, 75])]
        found = []
        for group, names in groups.items():
            rows = [[f"`{name}`", f"`{defaults[name]!r}`", texts.get(name, "")] for name in names]
            if rows:
                if "details" in self.options:
                    found.append(nodes.rubric("", group))
                found.append(table(["name", "default", "what it is"], rows, [25, 15, 60]))
        return found


def setup(app):
    app.add_directive("parameters", Parameters)
    return {"parallel_read_safe": True}
