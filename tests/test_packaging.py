"""What is built can be installed and used, away from the source folder."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sklearn_ssimae

# A build, and an environment to install it in.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json
import sys

import joblib
import numpy as np

import sklearn_ssimae
from sklearn_ssimae import SSIMAutoencoderDetector

stripes = np.tile(0.5 + 0.4 * np.sin(np.arange(32)), (4, 32, 1))
detector = SSIMAutoencoderDetector(
    patch_size=16, latent_dim=4, n_patches=300, max_iter=4, threshold=0.5, random_state=0
).fit(stripes)
joblib.dump(detector, "detector.joblib")
maps = joblib.load("detector.joblib").transform(stripes)
report = {"file": sklearn_ssimae.__file__, "version": sklearn_ssimae.__version__}
report["shape"] = maps.shape
report["same"] = bool((maps == detector.transform(stripes)).all())
report["matplotlib"] = "matplotlib" in sys.modules
print(json.dumps(report))
"""


def run(*command, **options):
    finished = subprocess.run(command, capture_output=True, text=True, **options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """An sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_sdist(dist):
    (sdist,) = dist.glob("*.tar.gz")
    assert sdist.name == f"sklearn_ssimae-{sklearn_ssimae.__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "README.md", "constraints.txt", "docs/conf.py", "examples/fabric.py"}
    assert needed <= names
    assert "tests/test_packaging.py" in names


def test_wheel(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("sklearn_ssimae/**/*.py")}
    assert modules <= names
    assert "sklearn_ssimae/py.typed" in names
    report = ROOT / "sklearn_ssimae/inspection/_report"
    page = {str(file.relative_to(ROOT)) for file in report.glob("report.[!p]*")}
    assert len(page) == 3
    assert page <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sklearn_ssimae"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        assert f"Requires-Dist: {requirement}\n" in metadata
    for extra in project["optional-dependencies"]:
        assert f"Provides-Extra: {extra}\n" in metadata


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """The wheel in an environment of its own, whose other packages are those of this one.

    A function that runs one of its programs, in an empty folder.
    """
    (wheel,) = dist.glob("*.whl")
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    run(
        *(sys.executable, "-m", "pip", "--python", programs / "python"),
        *("install", "--no-deps", "--no-index", wheel),
    )
    packages = Path(
        run(
            programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        ).strip()
    )
    # Appended to the path, behind what the wheel brought.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run_program(name, *arguments):
        return run(programs / name, *arguments, cwd=elsewhere, env=environment)

    run_program.packages, run_program.folder = packages, elsewhere
    return run_program


def test_main_job_from_the_wheel(installed):
    report = json.loads(installed("python", "-W", "ignore", "-c", SCRIPT))
    assert Path(report["file"]).is_relative_to(installed.packages)
    assert report["version"] == sklearn_ssimae.__version__
    assert report["shape"] == [4, 32, 32]
    assert report["same"]
    # Displays import it when they draw.
    assert not report["matplotlib"]


def test_command_line_from_the_wheel(installed):
    stripes = np.tile(128 + 100 * np.sin(np.arange(40)), (40, 1)).astype(np.uint8)
    for index in range(2):
        Image.fromarray(stripes).save(installed.folder / f"{index}.png")
    assert "usage: ssimae" in installed("ssimae", "--help")
    tiny = ["patch_size=16", "latent_dim=4", "n_patches=16", "max_iter=1", "threshold=9"]
    output = installed("ssimae", "train", ".", "-o", "stripes.skops", "--set", *tiny)
    assert "stripes.skops: 1 epochs of 2 good images, threshold 9" in output
    output = installed(
        *("python", "-m", "sklearn_ssimae"), "inspect", "stripes.skops", ".", "-o", "out", "--masks"
    )
    assert "2 good, 0 with defects, 0 not inspected" in output
    lines = (installed.folder / "out/results.csv").read_text(encoding="utf-8").splitlines()
    assert [line.partition(",")[0] for line in lines] == ["path", "0.png", "1.png"]
    assert (installed.folder / "out/masks/1.png").is_file()
