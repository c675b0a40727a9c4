"""Runs a command; errors and warnings become one line each, and an exit status."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import TextIO

from sklearn_ssimae._cli.parser import make_parser

ERROR = 2
# What shells say of a command that Ctrl-C ended.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = make_parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # names of files that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        # Libraries' other warnings are for those who write code.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        try:
            return int(import_module(f"sklearn_ssimae._cli.{options.command}").run(options))
        except KeyboardInterrupt:
            print("ssimae: interrupted", file=sys.stderr)
            return INTERRUPTED
        except Exception as error:
            # A traceback would end with status 1, which stands for "defects found".
            print(f"ssimae: error: {one_line(error)}", file=sys.stderr)
            return ERROR


def one_line(error: Exception) -> str:
    """What an error says, in one line, with its type where the text alone would be too short."""
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}"
    text = " ".join(str(error).split())
    speaks_for_itself = isinstance(
        error, (ImportError, OSError, RuntimeError, TypeError, ValueError)
    )
    return text if text and speaks_for_itself else f"{type(error).__name__}: {text}"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"ssimae: warning: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
