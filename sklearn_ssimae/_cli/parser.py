"""The arguments of all commands."""

from __future__ import annotations

import math
import re
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, NoReturn

from sklearn_ssimae._detectors.docs import DOCUMENTATION_URL
from sklearn_ssimae._version import __version__

DESCRIPTION = """\
Find defects on textured surfaces, having seen good images only.

Images are PNG, JPEG, TIFF, BMP or WebP files; folders are searched to any depth. Detectors are
kept in .skops files, which run no code when they are read, or in .joblib files, which do."""


_WHAT_INSPECT_WRITES = (
    "OUT/results.csv gets a line an image:\n"
    "path; score, the largest residual; p, the probability that a good image scores as\n"
    "high; label, a defect if the score is above the threshold; number of defects; their\n"
    "area and the box of the largest (x, y, width, height), in pixels; the error if the\n"
    "image could not be inspected; time (UTC); threshold; name of the detector's file; the\n"
    "first 12 digits of its SHA-256. An error does not keep the other images from being\n"
    "inspected. With --watch an image that changes gets another line: the last line of a\n"
    "path counts.\n\n"
    "p is by rank among the good images that were kept from training, or extrapolated from\n"
    "them: ssimae info says which. It is empty if none were kept, or if the detector was set\n"
    "to make other maps since, as with --min-area.\n\n"
    "OUT/defects.csv gets a line a defect: path; area; box (top, left, bottom, right: the\n"
    "last two lie one pixel beyond it); centroid; axes and orientation, in degrees, of the\n"
    "ellipse with the same moments; peak and mean of the residual; whether it touches the\n"
    "border. Lengths are in pixels, and in mm too with --mm-per-pixel. When an image is\n"
    "inspected again, its new defects replace the earlier ones.\n\n"
    "A line that begins with drift: says that what arrives no longer looks as the training\n"
    "images did, and what moved; images are counted from 1 in each run. It is printed once,\n"
    "and again when something else moves or all is as it was.\n\n"
    "Masks and maps have the image's name with .png or .tiff added, unless it ends so\n"
    "already: x.jpg has the mask x.jpg.png, and x.png has x.png. Names such as x.jpg.png\n"
    "always get it: x.jpg.png has x.jpg.png.png.\n\n"
    "exit status: 2 after an error, such as an image that could not be inspected; 1 if there\n"
    "are defects and --fail-on-defect is given; else 0"
)


class Parser(ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ssimae: error: {message} (see {self.prog} --help)\n")


def make_parser() -> ArgumentParser:
    """The parser. Its result names the command, which is also a module of this folder."""
    parser = Parser(
        prog="ssimae", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"sklearn-ssimae {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        *(_add_train, _add_inspect, _add_evaluate, _add_detectability),
        *(_add_threshold, _add_learn, _add_export, _add_info),
    ):
        add(commands)
    return parser


def _add_command(commands: Any, name: str, summary: str, details: str, example: str) -> Any:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {details}".strip(),
        epilog=f"example:\n{example}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    return parser.add_argument


def _add_train(commands: Any) -> None:
    add = _add_command(
        commands,
        "train",
        "learn what good images look like",
        "Ctrl-C ends the training\nand keeps what was learnt.",
        "  ssimae train photos/good -o detector.skops --set scale=0.5\n\n"
        "parameters to begin with: scale, patch_size, latent_dim, max_iter, random_state\n"
        f"all of them: {DOCUMENTATION_URL}parameters.html",
    )
    add("good", metavar="GOOD_DIR", type=Path, help="folder of good images")
    _add_output(add, "the detector's file: .skops, or .joblib")
    add(
        "--detector",
        choices=("ssim", "l2", "vae", "fmae"),
        default="ssim",
        help="which autoencoder (default: ssim)",
    )
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="parameters of the detector, as in Python: scale=0.5 latent_dim=200",
    )
    add(
        "--region",
        metavar="MASK",
        help="image of two values, of the size of the photographs: white counts. What is black is "
        "neither learnt from nor inspected",
    )
    add(
        "--ignore-border",
        nargs="+",
        type=whole_number,
        metavar="N",
        help="pixels at the border that do not count: one number, or four (TOP RIGHT BOTTOM LEFT). "
        "Within --region, if both are given",
    )
    add(
        "--min-area",
        type=whole_number,
        metavar="N",
        help="pixels of the smallest region that is a defect (default: 0)",
    )
    add(
        "--minutes",
        type=positive_number,
        metavar="M",
        help="minutes of training. Two epochs measure the speed and are thrown away; then as many "
        "epochs as fit into the rest run to the end",
    )
    add(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="file for the state of the training: after a crash, the same command continues from "
        "it, with the number of epochs that --minutes measured first",
    )


def _add_inspect(commands: Any) -> None:
    add = _add_command(
        commands,
        "inspect",
        "look for defects",
        _WHAT_INSPECT_WRITES,
        "  ssimae inspect detector.skops photos/today -o results --masks --fail-on-defect",
    )
    _add_detector(add)
    add("images", metavar="IMAGES", nargs="*", type=Path, help="images, or folders of images")
    _add_output(add, "folder of the results; made if it is missing", metavar="OUT")
    add("--masks", action="store_true", help="OUT/masks: PNG files, 255 on defects, else 0")
    add("--maps", action="store_true", help="OUT/maps: residual maps, TIFF files of 32-bit floats")
    add(
        "--report",
        action="store_true",
        help="OUT/report.html: a page on which the threshold can be moved and the images judged",
    )
    add(
        "--masks-from",
        type=Path,
        metavar="DIR",
        help="folder of true masks for the report, laid out as the images: NAME_mask.png or "
        "NAME.png, not black on defects; images without one count as good. In the layout of "
        "MVTec AD masks are found without it",
    )
    add(
        "--watch",
        type=Path,
        metavar="DIR",
        help="inspect the images in this folder, and others as they arrive, until Ctrl-C; "
        "started again, it continues OUT/results.csv, whose paths are absolute: images in it are "
        "not inspected again unless they change. Images that failed are tried again; their earlier "
        "errors, and rows that a full disk or a power cut tore, are removed",
    )
    add(
        "--min-area",
        type=whole_number,
        metavar="N",
        help="pixels of the smallest region that is a defect (default: as it was trained)",
    )
    _add_tables(add)
    add("--fail-on-defect", action="store_true", help="exit status 1 if there are defects")


def _add_tables(add: Any) -> None:
    """What is in the tables of an inspection, and in which form."""
    add(
        "--mm-per-pixel",
        type=positive_number,
        metavar="MM",
        help="side of a pixel: OUT/defects.csv gets columns in millimetres, too",
    )
    add(
        "--coco",
        type=Path,
        metavar="FILE",
        help="the images of this run and their defects as JSON in the format of COCO, with masks "
        "as run lengths; written at the end, with --watch after Ctrl-C",
    )
    add(
        "--excel",
        action="store_true",
        help="tables that Excel opens by a double click: with a byte order mark and, where the "
        "locale has a decimal comma, with semicolons and decimal commas",
    )


def _add_evaluate(commands: Any) -> None:
    add = _add_command(
        commands,
        "evaluate",
        "measure a detector on images with known defects",
        "The folders are laid out as\nin MVTec AD: train/good, test/TYPE, ground_truth/TYPE.",
        "  ssimae evaluate detector.skops DATA/grid --json figures.json",
    )
    _add_detector(add)
    add("data", metavar="DATASET_DIR", type=Path, help="one category, or a folder of categories")
    add("--category", nargs="+", metavar="NAME", help="which categories (default: all)")
    add("--json", type=Path, metavar="FILE", help="also write the figures to a file")


def _add_detectability(commands: Any) -> None:
    add = _add_command(
        commands,
        "detectability",
        "state which sizes of defects a detector finds",
        "Defects of eight kinds are drawn\ninto good images; OUT/detectability.json and .png hold "
        "what was found. The size of a defect is\nthe square root of its area. a50 and a90 are "
        "found with a probability of 50 % and 90 %; a90/95 is\nthe upper bound of a90 at a "
        "confidence of 95 %; - where no size that was drawn is found so often.\n"
        "Ctrl-C keeps what was measured.",
        "  ssimae detectability detector.skops photos/more_good -o limits --mm-per-pixel 0.05",
    )
    _add_detector(add)
    add(
        "good",
        metavar="GOOD_DIR",
        type=Path,
        help="folder of good images that were not trained on; some twenty",
    )
    _add_output(add, "folder of the results; made if it is missing", metavar="OUT")
    add(
        "--mm-per-pixel",
        type=positive_number,
        metavar="MM",
        help="side of a pixel: sizes are then in millimetres",
    )


def _add_threshold(commands: Any) -> None:
    add = _add_command(
        commands,
        "threshold",
        "set a detector's threshold, without training",
        "It prints the old and the new\nthreshold, and what each of them rests on.",
        "  ssimae threshold detector.skops photos/more_good --false-alarm-rate 0.001 "
        "-o fewer_alarms.skops\n"
        "  ssimae threshold detector.skops --value 2.5 -o mine.skops",
    )
    _add_detector(add)
    add(
        "good",
        metavar="GOOD_DIR",
        nargs="?",
        type=Path,
        help="folder of good images, best ones that were not trained on",
    )
    add(
        "--false-alarm-rate",
        type=share,
        metavar="R",
        help="probability that a good image exceeds the threshold (default: 0.01)",
    )
    add("--value", type=number, metavar="T", help="the threshold itself, instead of GOOD_DIR")
    _add_output(add, "the new detector's file: .skops, or .joblib")


def _add_learn(commands: Any) -> None:
    add = _add_command(
        commands,
        "learn",
        "learn from verdicts that were given in a report",
        "Of images that are good by\nverdict and that the detector calls defects, the regions are "
        "remembered by their size, shape\nand height. Regions like them raise no alarm any more. "
        "Images that are defects by verdict\nare not learnt: it is told if one that was found is "
        "not found any more. Skipped ones are\nignored. The old file stays as it is: use it to "
        "undo the lesson.",
        "  ssimae inspect detector.skops photos/monday -o monday --report\n"
        "  ssimae learn detector.skops verdicts.csv -o taught.skops",
    )
    _add_detector(add)
    add("verdicts", metavar="VERDICTS", type=Path, help="verdicts.csv, as the report saves it")
    add(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images, if they are elsewhere now",
    )
    _add_output(add, "the new detector's file, another one: .skops, or .joblib")


def _add_export(commands: Any) -> None:
    add = _add_command(
        commands,
        "export",
        "write a detector as an ONNX file",
        "It takes images of one size and gives residual\nmaps; the threshold is in its metadata.",
        "  ssimae export detector.skops -o detector.onnx --image-shape 512 512",
    )
    _add_detector(add)
    _add_output(add, "the ONNX file")
    add(
        "--image-shape",
        type=side,
        nargs="+",
        required=True,
        metavar="SIDE",
        help="height and width of the images, and 3 if they are in colour",
    )


def _add_info(commands: Any) -> None:
    add = _add_command(
        commands,
        "info",
        "tell what a detector's file holds",
        "",
        "  ssimae info detector.skops",
    )
    _add_detector(add)


def _add_detector(add: Any) -> None:
    add("detector", metavar="DETECTOR", type=Path, help="file of a trained detector")


def _add_output(add: Any, help: str, metavar: str = "FILE") -> None:
    add("-o", "--output", type=Path, required=True, metavar=metavar, help=help)


def number(text: str) -> float:
    """A finite number."""
    value = _as_float(text)
    if not math.isfinite(value):
        pointed = text.replace(",", ".")
        hint = f": write {pointed}" if math.isfinite(_as_float(pointed)) else ""
        raise ArgumentTypeError(f"{text!r} is not a finite number{hint}")
    return value


def _as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if value <= 0:
        raise ArgumentTypeError(f"{text!r} is not above 0")
    return value


def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < 0:
        raise ArgumentTypeError(f"{text!r} is below 0")
    return value


def share(text: str) -> float:
    """A number between 0 and 1."""
    if text.rstrip().endswith("%"):
        percent = _as_float(text.rstrip()[:-1].replace(",", "."))
        hint = f": write {percent / 100:.10g}" if 0 < percent < 100 else ""
        raise ArgumentTypeError(f"{text!r} is not a number between 0 and 1{hint}")
    value = number(text)
    if not 0 < value < 1:
        hint = f"; {value:g} % is {value / 100:.10g}" if 1 <= value < 100 else ""
        raise ArgumentTypeError(f"{text!r} is not between 0 and 1{hint}")
    return value


def side(text: str) -> int:
    """A whole number of pixels."""
    try:
        return int(text)
    except ValueError:
        sides = re.fullmatch(r"(\d+)[,;x×](\d+)(?:[,;x×](\d+))?", text)
        hint = f": write {' '.join(filter(None, sides.groups()))}" if sides else ""
        raise ArgumentTypeError(f"invalid int value: {text!r}{hint}") from None
