"""Verdicts in a real Chromium: keys and buttons, what is counted, kept and saved."""

import csv
import functools
import hashlib

import numpy as np
import pytest
from inspection_reports import fitted, stripes_with_spots
from PIL import Image

from sklearn_ssimae.inspection import write_report

pytestmark = pytest.mark.browser

NAMES = ["b/10.png", "b/9.png", 'a "1", 2.png', "c.png", "d.png", "e.png"]
IMAGES = stripes_with_spots(6)[0]
# Two spots of their own: regions that are judged one by one.
IMAGES[5] = stripes_with_spots(2, seed=3)[0][0]
IMAGES[5, 4:10, 4:11] = IMAGES[5, 28:34, 34:41] = 255


@pytest.fixture(scope="module")
def detector():
    """One that calls half of the images defective."""
    detector = fitted(IMAGES[[0, 2, 4]])
    threshold = float(np.median(-detector.score_samples(IMAGES)))
    return fitted(IMAGES[[0, 2, 4]], threshold=threshold)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, image in zip(NAMES, IMAGES, strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def report(detector, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    file = path.with_name("detector.skops")
    file.write_bytes(b"weights")
    write_report(path, detector, [folder / name for name in NAMES], detector_file=file)
    return path.as_uri()


@pytest.fixture
def page(open_report, report):
    return open_report(report)


def card(page, index):
    return page.locator(f'[data-index="{index}"]')


def judge(page, index, verdict):
    card(page, index).locator(f"[data-verdict={verdict}]").click()


def verdicts_of(page):
    """The verdict of each image, as its pressed button says it."""
    return {
        index: pressed.first.get_attribute("data-verdict")
        for index in range(6)
        if (pressed := card(page, index).locator("[data-verdict][aria-pressed=true]")).count()
    }


def order_of(page):
    """The images that are listed, by their index."""
    return page.locator(".card:not([hidden])").evaluate_all(
        "all => all.map((card) => Number(card.dataset.index))"
    )


def current(page):
    return page.evaluate(
        "Number(document.querySelector('.card[aria-current]')?.dataset.index ?? NaN)"
    )


def save(page, tmp_path):
    """The rows of verdicts.csv."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save verdicts.csv").click()
    assert download.value.suggested_filename == "verdicts.csv"
    download.value.save_as(tmp_path / "verdicts.csv")
    with open(tmp_path / "verdicts.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def set_threshold(page, value):
    page.locator("#number").fill(str(value))
    page.locator("#number").press("Enter")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")
    return page.evaluate("threshold()")


def test_counts_follow_verdicts_and_threshold(page, detector):
    verdicts = {0: "good", 1: "defect", 2: "defect", 3: "good", 4: "skip"}
    for index, verdict in verdicts.items():
        judge(page, index, verdict)
    assert verdicts_of(page) == verdicts
    scores = -detector.score_samples(IMAGES)
    for aim in [detector.threshold_, *np.quantile(scores, [0, 0.3, 0.9])]:
        called = scores > set_threshold(page, aim)
        good, defective = called[[0, 3]], called[[1, 2]]
        n_right, n_judged = int(defective.sum()), int(defective.sum() + good.sum())
        assert page.locator("#judged").inner_text() == "5 of 6"
        assert page.locator("#seen-false-alarms").inner_text() == str(good.sum())
        assert page.locator("#seen-misses").inner_text() == str((~defective).sum())
        expected = f"{n_right / n_judged:.3f} ({n_right} of {n_judged})" if n_judged else "–"
        assert page.locator("#seen-precision").inner_text() == expected


def test_a_second_click_takes_a_verdict_back(page):
    judge(page, 1, "defect")
    judge(page, 1, "good")
    assert verdicts_of(page) == {1: "good"}
    judge(page, 1, "good")
    assert verdicts_of(page) == {}
    assert page.get_by_role("button", name="Save verdicts.csv").is_disabled()


def test_undo(page):
    undo = page.locator(".verdicts .undo")
    assert undo.is_disabled()
    for index, verdict in [(1, "defect"), (2, "good"), (1, "skip")]:
        judge(page, index, verdict)
    states = [verdicts_of(page)]
    while undo.is_enabled():
        undo.click()
        states.append(verdicts_of(page))
    assert states == [{1: "skip", 2: "good"}, {1: "defect", 2: "good"}, {1: "defect"}, {}]
    assert current(page) == 1


def test_keys(page):
    order = order_of(page)
    page.keyboard.press("g")  # the first key only says which image it is about
    assert verdicts_of(page) == {}
    assert current(page) == order[0]
    for key in "gdsx":
        page.keyboard.press(key)
    assert verdicts_of(page) == {order[0]: "good", order[1]: "defect", order[2]: "skip"}
    assert current(page) == order[3]
    page.keyboard.press("u")
    assert current(page) == order[2]
    page.keyboard.press("p")
    page.keyboard.press("g")
    assert verdicts_of(page) == {order[0]: "good", order[1]: "good"}
    for key in ("Control+d", "Alt+d"):
        page.keyboard.press(key)
    assert len(verdicts_of(page)) == 2
    page.locator("#shortcuts").uncheck()
    page.keyboard.press("d")
    assert len(verdicts_of(page)) == 2


def test_keys_are_not_taken_from_fields(page):
    page.keyboard.press("n")
    for field in ("#number", "#label-filter"):
        page.locator(field).focus()
        page.keyboard.press("d")
    assert verdicts_of(page) == {}


def test_next_and_previous(page):
    order = order_of(page)
    steps = page.locator(".steps")
    assert steps.locator("#place").inner_text() == "6 of 6 shown"
    for place, index in enumerate(order):
        steps.get_by_role("button", name="Next").click()
        assert current(page) == index
        assert steps.locator("#place").inner_text() == f"{place + 1} of 6"
        assert card(page, index).evaluate("element => element === document.activeElement")
        box = card(page, index).bounding_box()
        assert box["y"] < 900 and box["y"] + box["height"] > 0
    steps.get_by_role("button", name="Next").click()
    assert current(page) == order[-1]
    steps.get_by_role("button", name="Previous").click()
    assert current(page) == order[-2]


def test_names_of_buttons(page):
    """A screen reader hears which image a button is about."""
    for index, name in enumerate(NAMES):
        group = page.get_by_role("group", name=f"Verdict on {name}")
        assert group.count() == 1
        called = card(page, index).locator(".label").inner_text() == "▲ defect"
        texts = group.locator("[data-verdict]").all_inner_texts()
        assert texts == ["Good after all" if called else "Good", "Defect", "Skip"]


def test_filters(page, detector):
    called = -detector.score_samples(IMAGES) > detector.threshold_
    by_score = np.argsort(detector.score_samples(IMAGES), kind="stable")
    label, verdict = page.locator("#label-filter"), page.locator("#verdict-filter")
    label.select_option("called defective")
    assert order_of(page) == [index for index in by_score if called[index]]
    label.select_option("called good")
    assert order_of(page) == [index for index in by_score if not called[index]]
    page.locator("#slider").press("End")  # every image is called good now
    page.wait_for_function("() => document.querySelectorAll('.card:not([hidden])').length === 6")
    label.select_option("all")
    judge(page, 1, "defect")
    judge(page, 2, "skip")
    verdict.select_option("none yet")
    assert set(order_of(page)) == {0, 3, 4, 5}
    judge(page, 3, "good")
    assert set(order_of(page)) == {0, 4, 5}
    for name, expected in [("good", [3]), ("defect", [1]), ("skipped", [2])]:
        verdict.select_option(name)
        assert order_of(page) == expected
    label.select_option("called defective")
    assert order_of(page) == []
    assert page.locator("#none-listed").is_visible()


def test_a_filter_is_worked_off_by_keys(page):
    page.locator("#verdict-filter").select_option("none yet")
    order = order_of(page)
    page.keyboard.press("n")
    for left in range(5, -1, -1):
        page.keyboard.press("g")
        assert len(order_of(page)) == left
    assert verdicts_of(page) == dict.fromkeys(sorted(order), "good")


def test_order(page):
    by_score = order_of(page)
    page.locator("#order").select_option("by name")
    assert [NAMES[index] for index in order_of(page)] == [
        *('a "1", 2.png', "b/9.png", "b/10.png"),
        *("c.png", "d.png", "e.png"),
    ]
    page.locator("#order").select_option("by score")
    assert order_of(page) == by_score


def test_verdicts_survive(page, open_report, report):
    """A reload, and a second window; not another report."""
    judge(page, 1, "defect")
    judge(page, 4, "good")
    page.reload()
    page.wait_for_function("() => document.querySelector('.label').textContent")
    assert verdicts_of(page) == {1: "defect", 4: "good"}
    assert page.locator("#judged").inner_text() == "2 of 6"
    other = open_report(report, context=page.context)
    judge(other, 4, "skip")
    page.wait_for_function("() => document.getElementById('judged').textContent === '2 of 6'")
    assert verdicts_of(other) == {1: "defect", 4: "skip"}
    page.wait_for_function(
        "() => document.querySelector('[data-index=\"4\"] [data-verdict=skip]').ariaPressed"
        " === 'true'"
    )


def test_other_reports_have_verdicts_of_their_own(page, open_report, detector, folder, tmp_path):
    judge(page, 1, "defect")
    path = tmp_path / "other.html"
    write_report(path, detector, [folder / name for name in NAMES[:5]])
    assert verdicts_of_none(open_report(path.as_uri(), context=page.context))


def verdicts_of_none(page):
    return page.locator("[data-verdict][aria-pressed=true]").count() == 0


@pytest.mark.parametrize("refused", ["localStorage", "localStorage.setItem"])
def test_without_a_memory(open_report, report, tmp_path, refused):
    """It works, says so, and verdicts can be saved."""
    script = {
        "localStorage": "Object.defineProperty(window, 'localStorage',"
        " { get() { throw new DOMException('refused'); } });",
        "localStorage.setItem": "Storage.prototype.setItem ="
        " () => { throw new DOMException('full'); };",
    }[refused]
    page = open_report(report, script=script)
    assert page.locator("#not-kept").is_visible()
    judge(page, 2, "good")
    assert verdicts_of(page) == {2: "good"}
    assert [row["verdict"] for row in save(page, tmp_path)] == ["good"]


def test_with_a_memory_nothing_is_said(page):
    judge(page, 2, "good")
    assert not page.locator("#not-kept").is_visible()


def test_table(page, detector, folder, report, tmp_path):
    judge(page, 2, "good")
    judge(page, 1, "defect")
    judge(page, 0, "skip")
    threshold = set_threshold(page, detector.threshold_ * 1.1)
    rows = save(page, tmp_path)
    scores = -detector.score_samples([folder / name for name in NAMES])
    for row, index, verdict in zip(rows, (0, 1, 2), ("skip", "defect", "good"), strict=True):
        path = folder / NAMES[index]
        assert float(row.pop("score")) == scores[index]
        assert row == {
            "path": str(path),
            "verdict": verdict,
            **dict.fromkeys(("region", "x", "y", "width", "height"), ""),
            "label": "defect" if scores[index] > threshold else "good",
            "threshold": row["threshold"],
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": str(path.stat().st_size),
            "report": page.evaluate("report.id"),
            "detector": report.removeprefix("file://").replace("report.html", "detector.skops"),
            "detector_sha256": hashlib.sha256(b"weights").hexdigest(),
            "detector_threshold": row["detector_threshold"],
        }
        assert float(row["threshold"]) == threshold
        assert float(row["detector_threshold"]) == detector.threshold_


class TestRegions:
    @pytest.fixture
    def page(self, open_report, report):
        page = open_report(report)
        card(page, 5).get_by_role("button", name="2 regions").click()
        return page

    def region(self, page, number):
        page.locator("#viewer .regions button").nth(number).click()
        return functools.partial(self.judge, page)

    def judge(self, page, verdict):
        page.locator(f"#viewer [data-verdict={verdict}]").click()

    def test_each_has_a_verdict(self, page, detector, folder, tmp_path):
        regions = page.locator("#viewer .regions button")
        assert regions.all_inner_texts() == ["Image", "Region 1", "Region 2"]
        assert page.locator("#viewer .on").inner_text() == "Region 1:"
        self.region(page, 1)("good")
        assert verdicts_of(page) == {}  # of the image nothing is known yet
        self.region(page, 2)("defect")
        assert regions.all_inner_texts() == ["Image: defect", "Region 1: good", "Region 2: defect"]
        assert verdicts_of(page) == {5: "defect"}
        page.keyboard.press("Escape")
        rows = save(page, tmp_path)
        assert [(row["region"], row["verdict"]) for row in rows] == [
            ("", "defect"),
            ("1", "good"),
            ("2", "defect"),
        ]
        residual = detector.transform([folder / "e.png"])[0]
        for row in rows[1:]:
            x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
            part = residual[y : y + height, x : x + width]
            assert part.max() == float(row["score"]) > detector.threshold_

    def test_all_good_makes_a_good_image(self, page):
        for number in (1, 2):
            self.region(page, number)("good")
        assert verdicts_of(page) == {5: "good"}
        assert page.locator("#viewer .regions button").first.inner_text() == "Image: good"

    def test_the_later_of_two_that_contradict_stands(self, page):
        self.region(page, 1)("defect")
        self.region(page, 0)("good")
        texts = page.locator("#viewer .regions button").all_inner_texts()
        assert texts == ["Image: good", "Region 1", "Region 2"]
        self.region(page, 2)("defect")
        texts = page.locator("#viewer .regions button").all_inner_texts()
        assert texts == ["Image: defect", "Region 1", "Region 2: defect"]
        for _ in range(2):
            page.locator("#viewer .undo").click()
        texts = page.locator("#viewer .regions button").all_inner_texts()
        assert texts == ["Image: defect", "Region 1: defect", "Region 2"]

    def test_keys_go_on_to_the_next(self, page):
        page.keyboard.press("g")
        assert page.locator("#viewer .on").inner_text() == "Region 2:"
        page.keyboard.press("d")
        texts = page.locator("#viewer .regions button").all_inner_texts()
        assert texts == ["Image: defect", "Region 1: good", "Region 2: defect"]
