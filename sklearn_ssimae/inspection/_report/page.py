"""The page: the template and what it is filled with."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sklearn_ssimae._version import __version__
from sklearn_ssimae.inspection._report.scale import Scale


class Scores(NamedTuple):
    """Scores of the inspected and of the good images, and which inspected ones are defective.

    Attributes
    ----------
    inspected, good : float64 ndarray of shape (n,), (m,)
    defective : bool ndarray of shape (n,) or None
        None where nobody knows.
    """

    inspected: np.ndarray
    good: np.ndarray
    defective: np.ndarray | None


def render(scores: Scores, scale: Scale, *, threshold: float, **more: Any) -> Iterator[str]:
    """The page in parts; cards are made as they are asked for.

    Parameters
    ----------
    scores : Scores
    scale : Scale
    threshold : float
        The detector's.
    **more
        What else the template names.
    """
    folder = files(__package__)
    style, script, page = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js", "report.html.jinja")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(page).generate(
        # Only these two are trusted; whatever comes from outside is escaped.
        style=Markup(style),
        script=Markup(script),
        data=_data(scores, scale, threshold),
        defective=scores.defective,
        n_good=len(scores.good),
        n_images=len(scores.inspected),
        rows=_histograms(scores, scale),
        scale=scale,
        threshold=threshold,
        version=__version__,
        **more,
    )


def _data(scores: Scores, scale: Scale, threshold: float) -> dict[str, Any]:
    """What the page computes labels and counts of. JSON keeps every digit of a float."""
    return {
        "threshold": threshold,
        "low": scale.low,
        "high": scale.high,
        "levels": scale.levels.tolist(),
        "scores": scores.inspected.tolist(),
        "goodScores": scores.good.tolist(),
        "defective": None if scores.defective is None else scores.defective.tolist(),
    }


def _histograms(scores: Scores, scale: Scale) -> list[dict[str, Any]]:
    """A row for each kind of image, with bars as high as their share of the highest."""
    inspected, good, defective = scores
    kinds = {"good": good}
    if defective is None:
        kinds["inspected"] = inspected
    else:
        kinds["inspected, truly good"] = inspected[~defective]
        kinds["inspected, truly defective"] = inspected[defective]
    return [
        {"label": label, "n": len(values), "bars": [count / max(counts) for count in counts]}
        for label, values in kinds.items()
        if len(values) and (counts := scale.histogram(values))
    ]
