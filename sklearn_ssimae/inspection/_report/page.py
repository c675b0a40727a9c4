"""The page: the template and what it is filled with."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sklearn_ssimae._version import __version__
from sklearn_ssimae.inspection._report.scale import Scale

# In the order in which they stand in the file.
_STYLES = ("report.css", "cards.css", "viewer.css", "print.css")
_SCRIPTS = ("codec.js", "report.js", "verdicts.js", "viewer.js", "list.js")


class Scores(NamedTuple):
    """Scores of the inspected and of the good images, and which inspected ones are defective.

    Attributes
    ----------
    inspected, good : float64 ndarray of shape (n,), (m,)
    defective : bool ndarray of shape (n,) or None
        None where nobody knows.
    on_defect : list of n floats or None, or None
        The largest residual on the true defect of each image that has one; None where nobody
        knows where defects are.
    """

    inspected: np.ndarray
    good: np.ndarray
    defective: np.ndarray | None
    on_defect: list[float | None] | None


class Origin(NamedTuple):
    """What the report is of.

    Attributes
    ----------
    detector : str
        Its class.
    threshold : float
        The detector's.
    basis : str
        What the threshold rests on.
    file, sha256 : str or None
        The detector's file, and the hash of its bytes.
    finds : list of str
        Which drawn defects it finds, a line for each kind, if that was measured.
    folder : str or None
        What the paths of all images have in common.
    """

    detector: str
    threshold: float
    basis: str
    file: str | None
    sha256: str | None
    finds: list[str]
    folder: str | None


def render(scores: Scores, scale: Scale, origin: Origin, **more: Any) -> Iterator[str]:
    """The page in parts; cards are made as they are asked for.

    Parameters
    ----------
    scores : Scores
    scale : Scale
    origin : Origin
    **more
        What else the template names.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("report.html.jinja")).generate(
        # Only these two are trusted; whatever comes from outside is escaped.
        style=Markup("\n".join(map(_text, _STYLES))),
        script=Markup("\n".join(map(_text, _SCRIPTS))),
        data=_data(scores, scale, origin),
        defective=scores.defective,
        n_good=len(scores.good),
        n_images=len(scores.inspected),
        now=datetime.now().astimezone(),
        origin=origin,
        rows=_histograms(scores, scale),
        scale=scale,
        threshold=origin.threshold,
        version=__version__,
        **more,
    )


def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _data(scores: Scores, scale: Scale, origin: Origin) -> dict[str, Any]:
    """What the page computes labels and counts of. JSON keeps every digit of a float."""
    data = {
        "threshold": origin.threshold,
        "detectorFile": origin.file,
        "detectorSha256": origin.sha256,
        "command": f"ssimae threshold {shlex.quote(origin.file or 'detector.skops')}",
        "low": scale.low,
        "high": scale.high,
        "levels": scale.levels.tolist(),
        "scores": scores.inspected.tolist(),
        "goodScores": scores.good.tolist(),
        "defective": None if scores.defective is None else scores.defective.tolist(),
        "onDefect": scores.on_defect,
    }
    # The same report, written again, has the same verdicts.
    known = json.dumps([data, origin.folder]).encode()
    return {"id": hashlib.sha256(known).hexdigest()[:16], **data}


def _histograms(scores: Scores, scale: Scale) -> list[dict[str, Any]]:
    """A row for each kind of image, with bars as high as their share of the highest."""
    inspected, good, defective = scores[:3]
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
