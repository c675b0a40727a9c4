"""The map that finds drawn defects best."""

from __future__ import annotations

from typing import Any


def choose_map(
    detector: Any, kept: Any, rng: Any
) -> tuple[float, dict[str, float], list[dict[str, Any]]]:
    """σ, constants and table."""
    return detector.network_.config["patch_size"] / 16, {}, []
