"""``ssimae inspect``: images in, a table of results out, in memory that does not grow."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_ssimae._cli.arrivals import common_folder, find_images, watch
from sklearn_ssimae._cli.files import load_detector
from sklearn_ssimae._cli.main import ERROR
from sklearn_ssimae._cli.results import TABLE, Results, Row, earlier_paths
from sklearn_ssimae._cli.truths import Masks, find_masks, inspected_folder
from sklearn_ssimae.datasets._folders import _MaskFiles
from sklearn_ssimae.inspection import write_report

# Their patches share batches: fewer would leave batches of small images half empty, more take
# memory.
_N_TOGETHER = 8


def run(options: Namespace) -> int:
    """Inspect images that are there, or a folder as they arrive."""
    if bool(options.images) == bool(options.watch):
        raise ValueError("Give images, or folders of images, or --watch DIR.")
    if options.masks_from and not options.report:
        raise ValueError("--masks-from is for the report: give --report too.")
    detector = load_detector(options.detector)
    table = options.output / TABLE
    groups: Iterable[list[str]]
    sources = [inspected_folder(source) for source in options.images or [options.watch]]
    root = common_folder(sources)
    masks = None
    if options.watch:
        groups = watch(options.watch, options.output, earlier_paths(table))
    else:
        groups = [find_images(sources, options.output)]
        if options.report:  # what is wrong with a mask is told before hours of inspection
            masks = find_masks(groups[0], root, options.masks_from)
    counts: Counter[str] = Counter()
    inspected = []
    try:
        with Results(options, root, detector.threshold_) as results:
            for row in inspect(detector, groups, results):
                _tell(row)
                counts[row["label"]] += 1
                if options.report and row["label"]:
                    inspected.append(row["path"])
    except KeyboardInterrupt:
        if not options.watch:
            raise
    print(
        f"{counts['good']} good, {counts['defect']} with defects, {counts['']} not inspected; "
        f"threshold {detector.threshold_:.6g}; {table}"
    )
    present = [path for path in inspected if Path(path).is_file()]
    if present:
        if options.watch:
            masks = find_masks(present, root, options.masks_from)
        _report(options, detector, present, masks)
    if counts[""]:
        return ERROR
    return int(options.fail_on_defect and counts["defect"] > 0)


def inspect(detector: Any, groups: Iterable[list[str]], results: Results) -> Iterator[Row]:
    """Rows of the results, which are stored when they are given."""
    for paths in groups:
        for start in range(0, len(paths), _N_TOGETHER):
            some = paths[start : start + _N_TOGETHER]
            for path, found in zip(some, maps_or_errors(detector, some), strict=True):
                yield results.add(path, found)


def maps_or_errors(detector: Any, paths: list[str]) -> list[np.ndarray | Exception]:
    """For each image its residual map, or why there is none."""
    try:
        return list(detector.transform(paths))
    except Exception as error:  # whatever is wrong with one image, the others are inspected
        if len(paths) == 1:
            return [error]
    return [found for path in paths for found in maps_or_errors(detector, [path])]


def _report(options: Namespace, detector: Any, paths: list[str], masks: Masks | None) -> None:
    report = options.output / "report.html"
    files = None if masks is None else [masks[path] for path in paths]
    write_report(
        report,
        detector,
        paths,
        masks=None if files is None else _MaskFiles(paths, files),
        detector_file=options.detector,
    )
    print(f"report: {report}")
    if files is not None:
        n_masks = len(paths) - files.count(None)
        print(f"masks: {n_masks} of {len(paths)} images have one; the others count as good")


def _tell(row: Row) -> None:
    if row["label"]:
        print(f"{row['label']:<6} {row['score']:>10}  {row['path']}", flush=True)
    else:
        # Most messages name the file.
        place = "" if row["path"] in row["error"] else f"{row['path']}: "
        print(f"ssimae: error: {place}{row['error']}", file=sys.stderr, flush=True)
