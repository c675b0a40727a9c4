"""Pictures and tables of the results, from `figures.json` and `weaves.json`.

Nothing is measured here; docs/benchmarks.md names the commands that gave the numbers::

    python docs/benchmarks/figures.py

Tables are written into README.md and the pages, between the comments ``<!-- figures: NAME -->`` and
``<!-- end -->``. A value that is null in the JSON reads TODO-FIGURE.
"""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

HERE = Path(__file__).parent
IMAGES = HERE.parent / "images"
ROOT = HERE.parents[1]
WIDTH = 9
# Colours that the colour-blind can tell apart.
BLUE, VERMILION, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"
DATA = {
    "grid": BLUE,
    "NanoTWICE": VERMILION,
    "paper": GREEN,
    "fabric": "#cc79a7",
    "leather": "#8c564b",
    "KolektorSDD": "#e69f00",
}
DETECTORS = {"SSIM": "o", "ℓ²": "s", "VAE": "^", "FM-AE": "D"}
NAMES = {"ssim": "SSIM", "l2": "ℓ²", "vae": "VAE", "fmae": "FM-AE"}
UNKNOWN = "TODO-FIGURE"
# Of a default fit; of those to materials that are hard to learn, or of which little can be.
DEFAULT_CROPS = 30_000
OTHER_CROPS = {"NanoTWICE": 70_000, "leather": 70_000, "KolektorSDD": 70_000, "paper": 10_000}


def save(figure, name):
    figure.savefig(IMAGES / name, dpi=100)
    plt.close(figure)


def rows_of_labels(ax, labels):
    """One row for each label, the first on top."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(axis="x", color="#dddddd")
    ax.set_axisbelow(True)


def is_default(fit):
    return fit["crops"] == OTHER_CROPS.get(fit["data"], DEFAULT_CROPS)


def draw_decisions(fits):
    """Shares of the defective images that are located, and of the good ones called defective."""
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH, 0.42 * len(fits) + 1), sharey=True, layout="constrained"
    )
    labels = [
        f"{fit['data']}, {fit['detector']}, seed {fit['seed']}"
        + ("" if is_default(fit) else f", {fit['crops']:,} crops")
        for fit in fits
    ]
    for ax, title, counted, whole in (
        (axes[0], "located, of the defective images", "located", "defective"),
        (axes[1], "false alarms, of the good images", "false_alarms", "good"),
    ):
        for place, fit in enumerate(fits):
            share = fit[counted] / fit[whole] if fit[whole] else 0
            note = of(fit[counted], fit[whole]) if fit[whole] else "no good images to test on"
            if counted == "located" and fit["found"] > fit["located"]:
                note += f", {fit['found']} found"
            ax.barh(place, share, height=0.6, color=DATA[fit["data"]])
            inside = share > 0.5
            ax.text(
                share - 0.02 if inside else share + 0.02,
                place,
                note,
                va="center",
                ha="right" if inside else "left",
                color="white" if inside else "black",
                fontsize=9,
            )
        ax.set(title=title, xlim=(0, 1), xticks=np.linspace(0, 1, 5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    rows_of_labels(axes[0], labels)
    axes[1].grid(axis="x", color="#dddddd")
    axes[1].set_axisbelow(True)
    save(figure, "benchmark_decisions.png")


def draw_area_against_crops(default_fits, earlier_fits):
    """A dot for each fit: filled, as it is by default now; hollow, as measured with Adam."""
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH, 4.2), sharey=True, sharex=True, layout="constrained"
    )
    for ax, shown in zip(axes, (("grid", "paper"), ("NanoTWICE", "fabric")), strict=True):
        for fits, filled in ((default_fits, True), (earlier_fits, False)):
            for fit in (fit for fit in fits if fit["data"] in shown):
                color = DATA[fit["data"]]
                ax.plot(
                    fit["crops"],
                    fit["pixel_roc_auc"],
                    DETECTORS[fit["detector"]],
                    color=color,
                    markerfacecolor=color if filled else "white",
                    markersize=8,
                )
        colors = [Line2D([], [], color=DATA[name], lw=5, label=name) for name in shown]
        ax.legend(handles=colors, loc="lower right", frameon=False)
        ax.set(xlabel="crops that the fit saw", xscale="log", yscale="logit")
        ax.xaxis.set_major_locator(FixedLocator([20_000, 50_000, 100_000, 200_000, 500_000]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(FixedLocator([0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(color="#dddddd")
        ax.set_axisbelow(True)
    axes[0].set_ylabel("pixel ROC AUC")
    axes[0].set_ylim(0.58, 0.994)
    marks = [
        Line2D([], [], ls="", marker=mark, color=GREY, label=name)
        for name, mark in DETECTORS.items()
    ]
    hollow = Line2D([], [], ls="", marker="o", color=GREY, mfc="white", label="earlier, with Adam")
    figure.legend(handles=[*marks, hollow], loc="outside upper center", ncols=5, frameon=False)
    save(figure, "benchmark_area_crops.png")


def draw_maps(maps):
    """Areas of the same networks, one parameter of the map changed."""
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH, 0.32 * len(maps) + 1.2), sharey=True, layout="constrained"
    )
    for ax, title, column in ((axes[0], "pixel ROC AUC", 0), (axes[1], "average precision", 1)):
        for data in ("grid", "NanoTWICE"):
            values = [row[data][column] for row in maps]
            ax.axvline(values[0], color=DATA[data], lw=1, ls=":")
            ax.plot(values, range(len(maps)), "o", color=DATA[data], label=data)
        ax.set_title(title)
        ax.grid(axis="x", color="#dddddd")
    rows_of_labels(axes[0], [row["choice"] for row in maps])
    axes[0].legend(loc="center left", frameon=False)
    save(figure, "benchmark_maps.png")


def draw_training(training):
    """For each choice the area of the default map and of the best one, and the time."""
    heights = [len(rows) for rows in training.values()]
    figure, axes = plt.subplots(
        len(training),
        2,
        figsize=(WIDTH, 0.3 * sum(heights) + 2.4),
        width_ratios=(3, 1),
        height_ratios=heights,
        layout="constrained",
    )
    for (areas, times), (title, rows) in zip(axes, training.items(), strict=True):
        places = range(len(rows))
        for name, color, label in (
            ("default_map", BLUE, "plain map, σ = 8"),
            ("best_map", VERMILION, "best map, seen on the test images"),
        ):
            areas.plot([row[name] for row in rows], places, "o", color=color, label=label)
        areas.set_title(f"{title}: pixel ROC AUC", loc="left", fontsize=10)
        rows_of_labels(areas, [f"{row['choice']}; {row['crops']:,} crops" for row in rows])
        seconds = [row["fit_cpu_seconds"] for row in rows]
        times.bar_label(times.barh(places, seconds, 0.6, color=GREY), padding=2, fontsize=8)
        times.set_title("CPU seconds", loc="left", fontsize=10)
        rows_of_labels(times, [""] * len(rows))
        times.set_xlim(0, 1.2 * max(seconds))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    save(figure, "benchmark_training.png")


def draw_weaves(rows):
    """A map of shares for each weave: detectors by kinds of defect, and the false alarms."""
    weaves = list(dict.fromkeys(row["weave"] for row in rows))
    kinds = list(rows[0]["found"])
    figure, axes = plt.subplots(
        len(weaves), 1, figsize=(WIDTH, 2.1 * len(weaves) + 0.4), layout="constrained"
    )
    for ax, weave in zip(np.atleast_1d(axes), weaves, strict=True):
        shown = [row for row in rows if row["weave"] == weave]
        shares = [[row["found"][kind] / row["of_each"] for kind in kinds] for row in shown]
        alarms = [[row["false_alarms"] / row["good"]] for row in shown]
        picture = ax.imshow(np.hstack([shares, alarms]), vmin=0, vmax=1, cmap="Blues")
        for y, row in enumerate(shown):
            counts = [*row["found"].values(), row["false_alarms"]]
            for x, count in enumerate(counts):
                dark = picture.get_array()[y, x] > 0.6
                color = "white" if dark else "black"
                ax.text(x, y, count, ha="center", va="center", color=color)
        ax.axvline(len(kinds) - 0.5, color="black")
        labels = [kind.replace("_", "\n") for kind in kinds]
        ax.set_xticks(range(len(labels) + 1), [*labels, "false\nalarms"], fontsize=9)
        names = [f"{NAMES[row['detector']]}, {row['pixel_roc_auc']:.3f}" for row in shown]
        ax.set_yticks(range(len(shown)), names)
        ax.set_aspect("auto")
        counted = f"of {shown[0]['of_each']} of each kind, of {shown[0]['good']} good"
        ax.set_title(f"{weave}: called defective, {counted}", loc="left", fontsize=10)
    save(figure, "benchmark_weaves.png")


def draw_landing(materials):
    """Four bars: the share of the defective images whose defect is marked."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.4), layout="constrained")
    for place, row in enumerate(materials):
        share = 0 if row["located"] is None else row["located"] / row["defective"]
        ax.barh(place, share, height=0.6, color=DATA[row["data"]])
        text = of(row["located"], row["defective"])
        ax.text(0.02, place, text, va="center", color="white", fontsize=9)
    ax.set(xlim=(0, 1), title="located, of the defective images")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    rows_of_labels(ax, [row["data"] for row in materials])
    save(figure, "landing.png")


def of(part, whole):
    return UNKNOWN if part is None or whole is None else f"{part} of {whole}"


def digits(value, n=3):
    return UNKNOWN if value is None else f"{value:.{n}f}"


def table_of_materials(materials):
    """The four rows of the README."""
    yield ["material", "pixel ROC AUC", "average precision", "located", "false alarms"]
    for row in materials:
        yield [
            row["data"],
            digits(row["pixel_roc_auc"]),
            digits(row["average_precision"]),
            of(row["located"], row["defective"]),
            of(row["false_alarms"], row["good"]),
        ]


def table_of_detectors(fits):
    """The default fits of the grid, seed 0."""
    yield ["detector", "pixel ROC AUC", "AP", "image ROC AUC", "located", "found", "false alarms"]
    for fit in fits:
        if fit["data"] == "grid" and fit["seed"] == 0 and is_default(fit):
            areas = [
                digits(fit[name])
                for name in ("pixel_roc_auc", "average_precision", "image_roc_auc")
            ]
            counts = [of(fit[name], fit["defective"]) for name in ("located", "found")]
            yield [fit["detector"], *areas, *counts, of(fit["false_alarms"], fit["good"])]


def table_of_weaves(rows):
    """Sums over weaves and kinds of fault."""
    yield ["detector", "called defective", "false alarms"]
    for key, name in NAMES.items():
        fits = [row for row in rows if row["detector"] == key]
        found = sum(sum(row["found"].values()) for row in fits)
        faults = sum(row["of_each"] * len(row["found"]) for row in fits)
        alarms, good = (sum(row[name] for row in fits) for name in ("false_alarms", "good"))
        yield [name, of(found, faults), of(alarms, good)]


def table_of_published(rows):
    """What other methods' papers report."""
    yield ["method", "pixel ROC AUC, %", "AP, %", "needs", "source"]
    for row in rows:
        precision = "–" if row["average_precision"] is None else digits(row["average_precision"], 1)
        area = digits(row["pixel_roc_auc"], 1)
        yield [row["method"], area, precision, row["needs"], row["source"]]


def fill(path, name, rows):
    """Puts a table between the comments of a page."""
    header, *rows = rows
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    begin, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
    pattern = re.compile(f"({begin}).*?({end})", flags=re.S)
    text, n = pattern.subn(rf"\1\n{table}\n\n\2", path.read_text(encoding="utf-8"))
    if n != 1:
        raise ValueError(f"{path} must hold {begin.strip()!r} and {end!r} once, found {n}.")
    path.write_text(text, encoding="utf-8")


def main():
    figures = json.loads((HERE / "figures.json").read_text(encoding="utf-8"))
    weaves = json.loads((HERE / "weaves.json").read_text(encoding="utf-8"))
    docs = HERE.parent
    for page in (ROOT / "README.md", docs / "benchmarks.md"):
        fill(page, "materials", table_of_materials(figures["materials"]))
    fill(docs / "benchmarks.md", "detectors", table_of_detectors(figures["default_fits"]))
    fill(docs / "weaving.md", "weaves", table_of_weaves(weaves))
    fill(docs / "comparison.md", "published", table_of_published(figures["published"]))
    draw_landing(figures["materials"])
    draw_decisions(figures["default_fits"])
    draw_area_against_crops(figures["default_fits"], figures["earlier_fits"])
    draw_maps(figures["maps"])
    draw_training(figures["training"])
    draw_weaves(weaves)


if __name__ == "__main__":
    main()
