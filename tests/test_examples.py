"""The examples run, on tiny settings, and do what their texts say."""

import importlib
import re
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from skimage import data

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ["--patch-size", "16", "--n-patches", "16", "--scale", "0.125"]

pytestmark = [
    pytest.mark.slow,
    # A few steps of training converge to nothing.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Figures that an example would have shown; without a display, `show` warns."""
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.extend(map(plt.figure, plt.get_fignums())))
    yield figures
    plt.close("all")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.fixture
def mvtec(tmp_path):
    """Two good images, and three to test, in folders as those of MVTec AD."""
    brick = data.brick()
    defective = brick[256:320, :80].copy()
    defective[20:40, 20:40] = 255
    mask = np.zeros(defective.shape, dtype=np.uint8)
    mask[20:40, 20:40] = 255
    for name, image in {
        "train/good/0.png": brick[:64, :80],
        "train/good/1.png": brick[64:128, :80],
        "test/good/0.png": brick[128:192, :80],
        "test/spot/0.png": defective,
        "test/spot/1.png": defective[:, ::-1],
        "ground_truth/spot/0_mask.png": mask,
        "ground_truth/spot/1_mask.png": mask[:, ::-1],
    }.items():
        file = tmp_path / "wall" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return tmp_path / "wall"


def in_folders(root, *more):
    folders = ["--good", str(root / "train/good"), "--test", str(root / "test")]
    return [*folders, *TINY, "--max-iter", "1", "--output", str(root / "figure.png"), *more]


def read_row(output, title):
    """The words of a table's row."""
    row = next(line for line in output.splitlines() if line.startswith(title))
    return row.removeprefix(title).split()


def test_fabric(load, tmp_path, capsys):
    figure = tmp_path / "figure.png"
    load("fabric").main([*TINY, "--max-iter", "1", "--output", str(figure)])
    output = capsys.readouterr().out
    for title in ("pixel ROC AUC", "found", "  broken_end", "false alarms"):
        assert len(read_row(output, title)) in (2, 6)
    assert all(0 <= float(area) <= 1 for area in read_row(output, "pixel ROC AUC"))
    assert read_row(output, "  hole")[2::3] == ["3", "3"]
    assert output.count("epoch 1/1,") == 2
    assert figure.is_file()


def test_fabric_reads_masks_of_sub_folders(load, mvtec, capsys):
    load("fabric").main(in_folders(mvtec, "--masks", str(mvtec / "ground_truth")))
    output = capsys.readouterr().out
    assert "2 of 3 test images show defects" in output
    assert read_row(output, "  spot")[2::3] == ["2", "2"]
    assert read_row(output, "false alarms")[2::3] == ["1", "1"]
    assert (mvtec / "figure.png").is_file()


def test_fabric_reads_masks_of_the_same_name(load, mvtec):
    masks = mvtec / "masks"
    masks.mkdir()
    (mvtec / "ground_truth/spot/1_mask.png").rename(masks / "1.png")
    images = [str(mvtec / f"test/spot/{index}.png") for index in range(2)]
    good, defective = load("fabric").read_masks(images, mvtec / "test/spot", masks)
    assert not good.any()
    assert defective.sum() == 400
    assert defective.dtype == bool


def test_fabric_says_which_masks_are_left_over(load, mvtec, capsys):
    images = [str(mvtec / "test/spot/0.png")]
    load("fabric").read_masks(images, mvtec / "test", mvtec / "ground_truth")
    assert "1 masks belong to no test image, one of them" in capsys.readouterr().out


def test_fabric_refuses_masks_that_do_not_fit(load, mvtec):
    truth = mvtec / "ground_truth"
    with pytest.raises(SystemExit, match="No mask in"):
        load("fabric").main(in_folders(mvtec, "--masks", str(truth / "spot")))
    Image.new("L", (3, 3), 255).save(truth / "spot/1_mask.png")
    with pytest.raises(SystemExit, match=r"1_mask.png has the shape \(3, 3\)"):
        load("fabric").main(in_folders(mvtec, "--masks", str(truth)))


def test_fabric_without_masks(load, mvtec, capsys):
    load("fabric").main(in_folders(mvtec))
    lines = capsys.readouterr().out.splitlines()
    for name in ("good/0.png", "spot/0.png", "spot/1.png"):
        line = next(line for line in lines if line.endswith(name))
        assert line.split()[1] in ("good", "defect")


@pytest.mark.parametrize("arguments", [["--good", "a"], ["--masks", "a"]], ids=" ".join)
def test_fabric_wants_all_folders(load, arguments, capsys):
    with pytest.raises(SystemExit):
        load("fabric").main(arguments)
    assert "--test" in capsys.readouterr().err


def test_choose_window_and_threshold(load, capsys):
    search = load("choose_window_and_threshold").main(
        n_patches=16, max_iter=1, windows=(5, 7), n_folds=2
    )
    assert search.best_params_["thresholder__threshold"] in np.linspace(1.0, 4.0, 10)
    output = capsys.readouterr().out
    assert " 2 thresholds:" in output
    assert "10 thresholds:" in output


def test_compare_threshold_rules(load, drawn):
    results = load("compare_threshold_rules").main(n_patches=16, max_iter=1, n_rounds=3)
    assert list(results) == ["max", "quantile", "sigma", "area"]
    assert all(len(values) == 3 for figures in results.values() for values in figures.values())
    assert len(drawn) == 1


def test_rules_for_rate(load):
    """Fitted on all maps, every rule but "max" marks the share that was asked for."""
    module = load("compare_threshold_rules")
    good = np.random.default_rng(0).random((5, 40, 40))
    for rule in module.rules_for_rate(good, 0.02)[1:3]:
        assert rule.fit_transform(good).mean() == pytest.approx(0.02, abs=1e-3)


def test_plot_checkerboards(load, drawn):
    areas = load("plot_checkerboards").main(n_boards=4, n_patches=16, max_iter=1, n_test=3)
    assert len(areas) == 5
    assert len(drawn) == 1


def test_plot_ssim_components(drawn, capsys):
    runpy.run_path(str(EXAMPLES / "plot_ssim_components.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert "squared difference: [0.25]" in output
    for row, name in enumerate(("luminance", "contrast", "structure")):
        line = next(line for line in output.splitlines() if line.startswith(name))
        squared, *factors = (float(word) for word in line.split()[1:])
        assert squared == 0.25
        assert np.argmin(factors) == row
    assert len(set(drawn)) == 2


def test_report_of_cloth(load, tmp_path):
    load("report_of_cloth").main(tmp_path / "cloth.html", patch_size=16, n_patches=16, max_iter=1)
    text = (tmp_path / "cloth.html").read_text(encoding="utf-8")
    titles = re.findall('<h2 title="([^"]*)">', text)
    assert len(titles) == 24
    assert sum(title.startswith("good-") for title in titles) == 8
    assert "hole-4.png" in titles


def test_plot_residual_maps(drawn, capsys):
    source = (EXAMPLES / "plot_residual_maps.py").read_text()
    for long, short in {"n_patches=1000": "n_patches=16", "max_iter=10": "max_iter=1"}.items():
        assert long in source
        source = source.replace(long, short)
    exec(source, {"__name__": "__main__"})
    assert len(re.findall(r"^\w+ +-?1$", capsys.readouterr().out, flags=re.M)) == 16
    assert len(set(drawn)) == 3


def test_choose_without_defects(load, drawn, capsys, monkeypatch):
    module = load("choose_without_defects")
    for name in ("N_TRAIN", "N_GOOD", "N_FAULTY"):
        monkeypatch.setattr(module, name, 2)
    results = module.main(n_patches=16, max_iter=1)
    assert list(results) == ["plain", "twill"]
    for found in results.values():
        for judge in ("drawn", "masks"):
            assert np.all((found[f"mean_test_{judge}"] > 0) & (found[f"mean_test_{judge}"] < 1))
    assert capsys.readouterr().out.count("best by") == 4
    assert len(drawn) == 1
