"""What all commands have in common, and the real thing in a process of its own."""

import os
import re
import subprocess
import sys
import warnings

import pytest

import sklearn_ssimae
from sklearn_ssimae._cli.main import main, one_line
from sklearn_ssimae._cli.parser import make_parser

COMMANDS = [
    *("train", "inspect", "evaluate", "detectability", "threshold", "learn", "export", "info"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(ssimae, command):
    outcome = ssimae(command, "--help")
    assert outcome.status == 0
    examples = re.findall(rf"^  ssimae ({command} .*)$", outcome.output, flags=re.M)
    assert examples
    for example in examples:
        assert make_parser().parse_args(example.split()).command == command


def test_help_lists_the_commands(ssimae):
    output = ssimae("--help").output
    assert re.findall(r"^    (\w+)$|^    (\w+)  ", output, flags=re.M) == [
        # A long name leaves no room for its help on its line.
        (command, "") if len(command) > 10 else ("", command)
        for command in COMMANDS
    ]


def test_version(ssimae):
    assert ssimae("--version").output == f"sklearn-ssimae {sklearn_ssimae.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see ssimae --help)"),
        (["detect"], "invalid choice: 'detect'"),
        (["info"], "the following arguments are required: DETECTOR (see ssimae info --help)"),
        (["info", "a.skops", "--loud"], "unrecognized arguments: --loud"),
    ],
)
def test_usage_errors_are_one_line(ssimae, arguments, message):
    outcome = ssimae(*arguments)
    assert outcome.status == 2
    assert message in outcome.error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("one\n  two"), "one two"),
        (PermissionError(13, "Permission denied", "a.png"), "a.png: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("the disk is gone"), "the disk is gone"),
        (KeyError("a"), "KeyError: 'a'"),
        (RuntimeError(), "RuntimeError: "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_in_one_line(error, text):
    assert one_line(error) == text


@pytest.mark.parametrize(("category", "is_told"), [(UserWarning, True), (FutureWarning, False)])
def test_warnings_for_users_are_told_each_time(
    ssimae, detector_file, monkeypatch, category, is_told
):
    def run(options):
        for _ in range(2):
            warnings.warn("the lamp\nis dark", category, stacklevel=1)
        return 0

    monkeypatch.setattr("sklearn_ssimae._cli.info.run", run)
    outcome = ssimae("info", detector_file)
    assert outcome.errors == "ssimae: warning: the lamp is dark\n" * 2 * is_told


def test_warnings_are_as_they_were_afterwards(ssimae, detector_file):
    before = warnings.showwarning, list(warnings.filters)
    ssimae("info", detector_file)
    assert (warnings.showwarning, list(warnings.filters)) == before


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path):
    """Status 2 and one line; --help without waiting for torch."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*command):
        return subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=environment
        )

    finished = run("-m", "sklearn_ssimae", "info", tmp_path / "d.skops")
    assert finished.returncode == 2
    assert finished.stderr == f"ssimae: error: There is no file '{tmp_path / 'd.skops'}'.\n"
    script = f"""
import sys
from {main.__module__} import main
try:
    main(["train", "--help"])
except SystemExit:
    print(sorted({{"numpy", "sklearn", "torch"}} & sys.modules.keys()))
"""
    finished = run("-c", script)
    assert finished.returncode == 0
    assert finished.stdout.splitlines()[-1] == "[]"
