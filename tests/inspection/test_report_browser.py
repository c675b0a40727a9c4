"""The report in a real Chromium: what the slider moves, and how it looks on small screens.

Left out by default, since it needs a browser: ``python -m pytest -m browser``.
"""

import functools

import numpy as np
import pytest
from inspection_reports import fitted, pooled, stripes_with_spots
from sklearn.metrics import precision_score, recall_score

from sklearn_ssimae.inspection import write_report

pytestmark = pytest.mark.browser

# One image is larger than the maps in the file, the others differ in size.
IMAGES, MASKS = (list(stack) for stack in stripes_with_spots(20))
LARGE, LARGE_MASK = (stack[1] for stack in stripes_with_spots(2, (100, 700)))
IMAGES[3], MASKS[3] = LARGE, LARGE_MASK
GOOD = stripes_with_spots(9, seed=1)[0][::2]
DEFECTIVE = np.array([mask.any() for mask in MASKS])

# Height, width and pixels of a card's canvas, each pixel a number: alpha, blue, green, red.
PIXELS = """(index) => {
    const canvas = document.querySelector(`[data-index="${index}"] canvas`);
    const context = canvas.getContext("2d");
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.height, canvas.width, [...new Uint32Array(data.buffer)]];
}"""
FOUND, TRUE = 0xFF005ED5, 0xFFB27200


def detector_at(threshold):
    return fitted(GOOD, threshold=threshold)


@pytest.fixture(scope="module")
def detector():
    return fitted(GOOD)


@pytest.fixture(scope="module")
def report(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, detector, IMAGES, masks=MASKS, good=GOOD)
    return path.as_uri()


@pytest.fixture
def open_page(open_report, report):
    return functools.partial(open_report, report)


def next_frame(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")


def slide(page, value):
    """Move the slider near a value; the threshold where it came to rest."""
    page.locator("#slider").fill(str(value))
    next_frame(page)
    line = page.locator("#line").inner_text()
    return float(line.removeprefix("detector.set_params(threshold=").removesuffix(")"))


def look_at(page, index):
    page.locator(f'[data-index="{index}"]').scroll_into_view_if_needed()
    page.wait_for_function(
        "(index) => document.querySelector(`[data-index='${index}'] canvas`).width > 0",
        arg=index,
    )


def pixels_of(page, index):
    height, width, pixels = page.evaluate(PIXELS, index)
    return np.reshape(pixels, (height, width))


def inner_outline(mask):
    """Pixels of a mask that have a neighbour, or the border, outside it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def test_labels_and_outlines_follow_the_slider(open_page, detector):
    page = open_page(height=3000)
    for index in range(20):
        look_at(page, index)
    scores = -detector.score_samples(IMAGES)
    for aim in [detector.threshold_, *np.quantile(scores, [0, 0.5, 0.9, 1])]:
        threshold = slide(page, aim)
        at_threshold = detector_at(threshold)
        labels, masks = at_threshold.predict(IMAGES), at_threshold.segment(IMAGES)
        assert at_threshold.threshold_ == threshold
        texts = page.locator(".label").all_inner_texts()
        order = page.locator(".card").evaluate_all("all => all.map((card) => card.dataset.index)")
        for index, mask in enumerate(masks):
            assert texts[order.index(str(index))] == (
                "▲ defect" if labels[index] == -1 else "○ good"
            )
            expected = inner_outline(pooled(mask, 3 if index == 3 else 1))
            np.testing.assert_array_equal(pixels_of(page, index) == FOUND, expected)
    assert not masks[0].any()  # the last threshold is the greatest score


def test_outlines_of_cards_that_are_scrolled_to(open_page, detector):
    """Cards far away hold no pixels; they come back with the threshold of the day."""
    page = open_page(390, 600)
    last = int(np.argmax(detector.score_samples(IMAGES)))
    canvas = page.locator(f'[data-index="{last}"] canvas')
    assert canvas.get_attribute("width") == "0"
    threshold = slide(page, -detector.score_samples(IMAGES).max() * 0.9)
    look_at(page, last)
    expected = inner_outline(detector_at(threshold).segment(IMAGES[last : last + 1])[0])
    assert expected.any()
    np.testing.assert_array_equal(pixels_of(page, last) == FOUND, expected)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(
        "(index) => !document.querySelector(`[data-index='${index}'] canvas`).width", arg=last
    )


def test_masks(open_page):
    page = open_page()
    for index in (1, 2, 3):
        look_at(page, index)
        shown = pixels_of(page, index) == TRUE
        expected = inner_outline(pooled(MASKS[index], 3 if index == 3 else 1))
        assert (expected >= shown).all()
        assert expected.any() == shown.any() == DEFECTIVE[index]


def test_counts(open_page, detector):
    page = open_page()
    good_scores = -detector.score_samples(GOOD)
    for aim in np.quantile(-detector.score_samples(IMAGES), [0.2, 0.5, 0.9]):
        threshold = slide(page, aim)
        called = detector_at(threshold).predict(IMAGES) == -1
        n_found, n_called = int((called & DEFECTIVE).sum()), int(called.sum())

        def shown(name):
            return page.locator(f"#{name}").inner_text().split(" (")[0]

        assert shown("called") == f"{n_called} of 20"
        assert shown("good-above") == f"{(good_scores > threshold).sum()} of 5"
        assert shown("found") == f"{n_found} of 10"
        assert shown("false-alarms") == f"{n_called - n_found} of 10"
        # Three digits; browsers and Python round a half in different ways.
        precision, recall = precision_score(DEFECTIVE, called), recall_score(DEFECTIVE, called)
        assert float(shown("precision")) == pytest.approx(precision, abs=5.1e-4)
        assert float(shown("recall")) == pytest.approx(recall, abs=5.1e-4)
        maps = detector.transform(IMAGES)
        located = [
            map_[mask].max(initial=0) > threshold for map_, mask in zip(maps, MASKS, strict=True)
        ]
        assert shown("located") == f"{sum(located)} of 10"
        outcomes = page.locator(".outcome").all_inner_texts()
        assert outcomes.count("found") == sum(located)
        assert outcomes.count("found, but marked elsewhere") == n_found - sum(located)
        assert outcomes.count("false alarm") == n_called - n_found
        assert outcomes.count("missed") == 10 - n_found


def test_marker_stands_above_the_thumb(open_page, detector):
    page = open_page()
    slider = page.locator("#slider")
    low, high = (float(slider.get_attribute(name)) for name in ("min", "max"))
    for share in (0.1, 0.5, 0.9):
        place = (slide(page, low + share * (high - low)) - low) / (high - low)
        box, marker = (page.locator(name).bounding_box() for name in (".plot", "#marker"))
        centre = marker["x"] + marker["width"] / 2
        assert centre == pytest.approx(box["x"] + place * box["width"], abs=2)


def test_keyboard(open_page, detector):
    page = open_page()
    slider = page.locator("#slider")
    slider.focus()
    assert slider.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    levels = page.evaluate("report.levels")
    own = levels.index(detector.threshold_)
    for key, expected in [
        ("ArrowRight", levels[own + 1]),
        ("ArrowUp", levels[own + 2]),
        ("ArrowLeft", levels[own + 1]),
        ("PageDown", levels[own - 9]),
        ("Home", levels[0]),
        ("End", levels[-1]),
    ]:
        page.keyboard.press(key)
        next_frame(page)
        assert page.evaluate("threshold()") == expected
    assert slider.get_attribute("aria-valuetext").endswith(", 0 found, 0 false alarms")
    page.locator("#reset").press("Enter")
    next_frame(page)
    assert page.evaluate("threshold()") == detector.threshold_


def test_number(open_page, detector):
    """A number that is typed in goes to the nearest level; nonsense goes nowhere."""
    page = open_page()
    number = page.locator("#number")
    levels = np.array(page.evaluate("report.levels"))
    number.fill("0.0123456")
    number.press("Enter")
    next_frame(page)
    expected = levels[np.abs(levels - 0.0123456).argmin()]
    assert page.evaluate("threshold()") == expected
    assert float(number.input_value()) == pytest.approx(expected, rel=1e-5)
    number.fill("")
    number.press("Enter")
    assert float(number.input_value()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("has_clipboard", [True, False])
def test_copying(open_page, detector, has_clipboard):
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not has_clipboard:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    slide(page, detector.threshold_)
    for button, expected in [
        ("Copy value", repr(float(detector.threshold_))),
        (
            "Copy command",
            f"ssimae threshold detector.skops --value={float(detector.threshold_)!r} -o new.skops",
        ),
        ("Copy line", f"detector.set_params(threshold={float(detector.threshold_)!r})"),
    ]:
        page.get_by_role("button", name=button).click()
        page.wait_for_function(
            "(text) => document.getElementById('copied').textContent.endsWith(text)", arg=expected
        )
        assert page.evaluate("navigator.clipboard.readText()") == expected


def test_reconstruction_and_opacity(open_page):
    page = open_page()
    card = page.locator('[data-index="3"]')
    picture, button = card.locator(".reconstruction"), card.locator(".redraw")
    assert not picture.is_visible()
    button.click()
    assert picture.is_visible()
    assert button.get_attribute("aria-pressed") == "true"
    assert picture.evaluate("async (image) => (await image.decode(), image.naturalWidth)") > 100
    button.click()
    assert not picture.is_visible()
    look_at(page, 0)
    page.locator("#slider").press("End")  # without an outline
    for percent in (30, 85):
        page.locator("#opacity").fill(str(percent))
        next_frame(page)
        alphas = np.unique(pixels_of(page, 0) >> 24)
        np.testing.assert_allclose(alphas, [2.55 * percent], atol=0.5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_screens(open_page, width, scheme):
    page = open_page(width, 844, scheme)
    page.mouse.wheel(0, 1e5)
    page.wait_for_function("() => scrollY > 500")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator("#slider").bounding_box()
    assert 0 <= box["y"] <= 844 - box["height"]
    background, text = page.evaluate(
        "() => (({ backgroundColor, color }) => [backgroundColor, color])"
        "(getComputedStyle(document.body))"
    )
    red = [int(colour.removeprefix("rgb(").split(",")[0]) for colour in (background, text)]
    assert (red[0] > red[1]) == (scheme == "light")
