"""What `ssimae detectability` measured, where it lies beside a detector's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sklearn_ssimae._writing import sha256_of

FILE = "detectability.json"
NOT_DRAWN = "not drawn: it cannot be seen in this material"


def lines_of(detector_file: Path) -> list[str]:
    """What a detector finds, a line for each kind, if that was measured and lies beside its file.

    Of another detector, even an earlier one of that name, nothing is told.
    """
    try:
        content = json.loads((detector_file.parent / FILE).read_text(encoding="utf-8"))
        if content["sha256"] != sha256_of(detector_file):
            return []
        return [f"{kind}: {_line(row, content['unit'])}" for kind, row in content["kinds"].items()]
    # There is none, or it is of another make.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _line(row: dict[str, Any], unit: str) -> str:
    if row["n_drawn"] == 0:
        return NOT_DRAWN
    a50, a90, a90_95 = (as_size(row[name]) for name in ("a50", "a90", "a90_95"))
    return f"a50 {a50}, a90 {a90}, a90/95 {a90_95} {unit}"


def as_size(value: float | None) -> str:
    """A size in a table or a line; a dash for one that is not known."""
    return "-" if value is None else f"{value:.3g}"
