"""``ssimae inspect``: images in, a table of results out, in memory that does not grow."""

from __future__ import annotations

import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

from sklearn_ssimae._cli.arrivals import common_folder, find_images, watch
from sklearn_ssimae._cli.coco import Coco
from sklearn_ssimae._cli.files import check_folder, load_detector
from sklearn_ssimae._cli.main import ERROR
from sklearn_ssimae._cli.reporting import GrowingReport
from sklearn_ssimae._cli.results import Results
from sklearn_ssimae._cli.table import TABLE, Row
from sklearn_ssimae._cli.truths import inspected_folder
from sklearn_ssimae._writing import replacing
from sklearn_ssimae.inspection import DriftMonitor
from sklearn_ssimae.inspection._report import Seen, see

# Their patches share batches: fewer would leave batches of small images half empty, more take
# memory.
_N_TOGETHER = 8


class Found(NamedTuple):
    """What was found in an image."""

    #: Its map (h, w), what was seen if there is a report, or why it was not inspected.
    found: Any
    #: For the monitor, if there is one.
    measures: Any = None


Look = Callable[[list[str]], list[Found]]


def run(options: Namespace) -> int:
    """Inspect images that are there, or a folder as they arrive."""
    if bool(options.images) == bool(options.watch):
        raise ValueError("Give images, or folders of images, or --watch DIR.")
    if options.masks_from and not options.report:
        raise ValueError("--masks-from is for the report: give --report too.")
    detector = load_detector(options.detector)
    if options.min_area is not None:
        detector.set_params(min_area=options.min_area)
    threshold = detector.threshold_
    detector._check_threshold()
    groups: Iterable[list[str]]
    sources = [inspected_folder(source) for source in options.images or [options.watch]]
    root = common_folder(sources)
    report = GrowingReport(options, detector, root) if options.report else None
    coco = Coco(root) if options.coco else None
    results = Results(options, root, detector)
    monitor = monitor_of(detector)
    if options.watch:
        check_folder(options.watch)
        groups = watch(options.watch, options.output, results.inspected_before())
    else:
        groups = [find_images(sources, options.output)]
        if report:
            report.find_masks(groups[0])
    counts: Counter[str] = Counter()
    with replacing(options.coco) if options.coco else nullcontext() as coco_file:
        try:
            with results:
                inspected = inspect(detector, groups, results, monitor, report is not None)
                for row, (found, measures) in inspected:
                    _tell(row)
                    if monitor and measures is not None and monitor._take(measures):
                        _tell_drift(monitor)
                    counts[row["label"]] += 1
                    if report and isinstance(found, Seen):
                        report.add(row["path"], found)
                    if coco and row["label"]:
                        coco.add(row["path"], residual_of(found), threshold)
        except KeyboardInterrupt:
            if not options.watch:
                raise
        if coco and coco_file:
            coco.write(coco_file)
    print(
        f"{counts['good']} good, {counts['defect']} with defects, {counts['']} not inspected; "
        f"threshold {threshold:.6g}; {options.output / TABLE}"
    )
    if report:
        report.write()
    if counts[""]:
        return ERROR
    return int(options.fail_on_defect and counts["defect"] > 0)


def monitor_of(detector: Any) -> DriftMonitor | None:
    """What tells drift; None, with a warning, if the detector's fit left nothing for it."""
    try:
        return DriftMonitor(detector)
    except ValueError as error:
        warnings.warn(f"Drift is not watched for. {error}", stacklevel=2)
        return None


def inspect(
    detector: Any,
    groups: Iterable[list[str]],
    results: Results,
    monitor: DriftMonitor | None,
    for_report: bool,
) -> Iterator[tuple[Row, Found]]:
    """Rows of the results, which are stored when they are given, and what was found."""

    def look(paths: list[str]) -> list[Found]:
        return [
            Found(
                seen if for_report else seen.residual,
                monitor and monitor._measure(seen.image, seen.counts, seen.residual),
            )
            for seen in see(detector, detector._check_fitted_input(paths))
        ]

    for paths in groups:
        for start in range(0, len(paths), _N_TOGETHER):
            some = paths[start : start + _N_TOGETHER]
            for path, found in zip(some, found_or_errors(look, some), strict=True):
                yield results.add(path, residual_of(found.found)), found


def residual_of(found: Any) -> Any:
    """The map of an image, of what was seen, too; an error as it is."""
    return found.residual if isinstance(found, Seen) else found


def found_or_errors(look: Look, paths: list[str]) -> list[Found]:
    """What was found in each image."""
    try:
        return look(paths)
    except Exception as error:  # whatever is wrong with one image, the others are inspected
        if len(paths) == 1:
            return [Found(error)]
    return [found for path in paths for found in found_or_errors(look, [path])]


def _tell_drift(monitor: DriftMonitor) -> None:
    line = "over: images look as the training images did"
    print(f"drift: {monitor.describe() if monitor.drifted_ else line}", flush=True)


def _tell(row: Row) -> None:
    if row["label"]:
        print(f"{row['label']:<6} {row['score']:>10}  {row['path']}", flush=True)
    else:
        # Most messages name the file.
        place = "" if row["path"] in row["error"] else f"{row['path']}: "
        print(f"ssimae: error: {place}{row['error']}", file=sys.stderr, flush=True)
