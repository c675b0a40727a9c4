"""What people said of images in a report: ``verdicts.csv``, and where these images are."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sklearn_ssimae._writing import sha256_of

GOOD, DEFECT, SKIP = "good", "defect", "skip"
# The columns that are read; without the first three it is another table.
_NEEDED = ("path", "verdict", "region")
# Of a long list of files so many are named.
_N_NAMED = 3


class Verdict(NamedTuple):
    """On an image, or on a region of it."""

    path: str
    verdict: str
    region: str
    sha256: str
    detector_sha256: str
    line: int


def read_verdicts(file: Path) -> list[Verdict]:
    """The rows of a ``verdicts.csv``, also one that a spreadsheet has stored anew."""
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r}.")
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as opened:
            head = opened.readline()
            opened.seek(0)
            rows = csv.DictReader(opened, delimiter=";" if head.count(";") > 2 else ",")
            return list(_verdicts(rows, rows.fieldnames or [], file))
    except csv.Error as error:
        raise _is_another_table(file) from error


def _verdicts(rows: csv.DictReader[str], columns: Sequence[str], file: Path) -> Iterator[Verdict]:
    if not set(_NEEDED) <= set(columns):
        raise _is_another_table(file)
    for row in rows:
        path, word, region, sha256, detector = (
            row.get(name) or "" for name in (*_NEEDED, "sha256", "detector_sha256")
        )
        verdict = Verdict(path, word, region, sha256, detector, rows.line_num)
        if verdict.verdict not in (GOOD, DEFECT, SKIP):
            raise ValueError(
                f"{str(file)!r}, line {rows.line_num}: the verdict is {verdict.verdict!r}. It must "
                f"be {GOOD}, {DEFECT} or {SKIP}."
            )
        yield verdict


def _is_another_table(file: Path) -> ValueError:
    return ValueError(
        f"{str(file)!r} is not a verdicts file: it has no columns {', '.join(_NEEDED)}. Save one "
        "by the button of the report that `ssimae inspect --report` writes."
    )


def images_by_verdict(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts on whole images, by what they say; none contradicts another.

    Images of which only regions were judged are left out: of the rest of them nothing is known.
    """
    told: dict[str, Verdict] = {}
    for verdict in verdicts:
        if not verdict.region:
            # Copies are one image.
            earlier = told.setdefault(verdict.sha256 or verdict.path, verdict)
            _check_agreement(earlier, verdict)
    for verdict in verdicts:
        image = told.get(verdict.sha256 or verdict.path)
        if image and verdict.region and (image.verdict, verdict.verdict) == (GOOD, DEFECT):
            _check_agreement(image, verdict)
    return {
        word: [verdict for verdict in told.values() if verdict.verdict == word]
        for word in (GOOD, DEFECT, SKIP)
    }


def _check_agreement(one: Verdict, other: Verdict) -> None:
    if one.verdict != other.verdict:
        copy = "" if one.path == other.path else f", which is a copy of {other.path},"
        raise ValueError(
            f"The verdicts on {one.path}{copy} contradict each other: {one.verdict} in line "
            f"{one.line}, {other.verdict} in line {other.line}. Remove one of them."
        )


def find_files(verdicts: Sequence[Verdict], file: Path, folder: Path | None) -> list[str]:
    """The files of the images: where the verdicts say, beside their table, or in a folder.

    Raises
    ------
    FileNotFoundError
        For images that are nowhere.
    ValueError
        For images that are others now.
    """
    found: list[str] = []
    missing: list[str] = []
    changed: list[str] = []
    for verdict in verdicts:
        there = [place for place in _places(verdict, file, folder) if place.is_file()]
        same = (place for place in there if verdict.sha256 in ("", sha256_of(place)))
        place = next(same, None)
        if place:
            found.append(str(place))
        else:
            (changed if there else missing).append(verdict.path)
    if missing:
        hint = (
            f"{str(folder)!r} does not hold them: is {str(file)!r} of another report?"
            if folder
            else "If they were moved, name their folder: --images DIR. If the paths are relative, "
            "start the command in the folder where `ssimae inspect` was started."
        )
        raise FileNotFoundError(
            f"{len(missing)} of the {len(verdicts)} images that were judged do not exist: "
            f"{_named(missing)}. {hint}"
        )
    if changed:
        raise ValueError(
            f"{len(changed)} of the {len(verdicts)} images are others than those that were judged "
            f"(their SHA-256 differs): {_named(changed)}. Inspect and judge them again, or name "
            "the folder of the images that were judged: --images DIR."
        )
    return found


def _places(verdict: Verdict, file: Path, folder: Path | None) -> Iterator[Path]:
    """Where an image may be; in a folder below as many of its parent folders as there are."""
    path = Path(verdict.path)
    if folder is None:
        yield path
        yield file.parent / path
        return
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for start in range(len(parts)):
        yield folder.joinpath(*parts[start:])


def _named(paths: Sequence[str]) -> str:
    more = len(paths) - _N_NAMED
    return ", ".join(map(repr, paths[:_N_NAMED])) + (f" and {more} more" if more > 0 else "")
