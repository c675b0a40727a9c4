"""An image at full size, and the report on paper, in a real Chromium."""

import numpy as np
import pytest
from inspection_reports import fitted, pooled, stripes_with_spots

from sklearn_ssimae.inspection import write_report

pytestmark = pytest.mark.browser

# A long photograph with a bright fault of 6 pixels in dark material, and small ones beside it.
LONG = np.random.default_rng(0).integers(40, 70, (128, 1536), dtype=np.uint8)
LONG[60:66, 1100:1106] = 255
SMALL = stripes_with_spots(8)[0]
IMAGES = [LONG, *SMALL]
MASKS = [np.zeros(image.shape, dtype=bool) for image in IMAGES]
MASKS[0][60:66, 1100:1106] = True
# The pixel in the middle of the view.
MIDDLE = """() => {
    const canvas = document.querySelector("#viewer canvas");
    const { data } = canvas.getContext("2d").getImageData(
        canvas.width / 2, canvas.height / 2, 1, 1);
    return [...data];
}"""
VIEW = "({ scale: view.scale, x: view.x, y: view.y })"


@pytest.fixture(scope="module")
def detector():
    dark = [LONG[:, :200], LONG[:, 200:400]]
    score = -fitted(dark).score_samples([LONG])[0]
    return fitted(dark, threshold=float(score) / 2)


@pytest.fixture(scope="module")
def report(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, detector, IMAGES, masks=MASKS)
    return path.as_uri()


def next_frame(page):
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def open_view(page, index):
    page.locator(f'[data-index="{index}"] .open').click()
    page.wait_for_function("() => view.crops.every(({ picture }) => picture.complete)")
    next_frame(page)


def middle(page):
    """Where the middle of the view lies in the image."""
    now = page.evaluate(VIEW)
    box = page.locator("#viewer canvas").bounding_box()
    sides = (("x", "width"), ("y", "height"))
    return [(box[side] / 2 - now[axis]) / now["scale"] for axis, side in sides]


@pytest.mark.parametrize("width", [390, 1280])
def test_a_small_fault_is_seen_at_its_own_scale(open_report, report, width):
    """The photograph in the file is 640 pixels wide, at which the fault would be 2.5 wide."""
    page = open_report(report, width, 844)
    open_view(page, 0)
    page.keyboard.press("o")  # no outlines over it
    page.keyboard.press("r")
    next_frame(page)
    now = page.evaluate(VIEW)
    for offset in (-2, 0, 2):  # within the fault, by its own pixels
        page.evaluate(f"pan({offset * now['scale']}, 0)")
        assert np.allclose(middle(page), [1103 - offset, 63], atol=8)
    page.evaluate("centre({ x: 1103, y: 63, width: 0, height: 0 }, 8)")
    next_frame(page)
    assert min(page.evaluate(MIDDLE)[:3]) > 200
    page.evaluate("centre({ x: 1112, y: 63, width: 0, height: 0 }, 8)")
    next_frame(page)
    assert max(page.evaluate(MIDDLE)[:3]) < 110
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for box in [page.locator(f"#viewer {name}").bounding_box() for name in (".close", ".fit")]:
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= 844


def test_outlines(open_report, report):
    """Those of the card, as lines that are as thin at every zoom; a key takes them away."""
    page = open_report(report)
    open_view(page, 0)
    page.keyboard.press("r")
    next_frame(page)
    count = """() => {
        const canvas = document.querySelector("#viewer canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let found = 0, truth = 0;
        for (let i = 0; i < data.length; i += 4) {
            // The material is grey.
            found += data[i] > data[i + 2] + 80;
            truth += data[i + 2] > data[i] + 80;
        }
        return [found, truth];
    }"""
    found, truth = page.evaluate(count)
    assert found > 100 and truth > 10
    page.locator("#viewer .show-outlines").click()
    next_frame(page)
    assert page.evaluate(count) == [0, 0]
    assert page.locator("#viewer .show-outlines").get_attribute("aria-pressed") == "false"


def test_zoom_and_pan(open_report, report):
    page = open_report(report)
    open_view(page, 0)
    whole = page.evaluate(VIEW)
    box = page.locator("#viewer canvas").bounding_box()
    assert whole["scale"] == pytest.approx(box["width"] / 1536)
    point = [700.0, box["height"] / 2 + 10]

    def under_mouse():
        now = page.evaluate(VIEW)
        return [(point[i] - now[axis]) / now["scale"] for i, axis in enumerate("xy")]

    page.mouse.move(box["x"] + point[0], box["y"] + point[1])
    # From where both sides are larger than the view: a smaller one stays in its middle.
    for steps in (11, 2):
        before, scale = under_mouse(), page.evaluate("view.scale")
        for _ in range(steps):
            page.mouse.wheel(0, -100)
        page.wait_for_function("(least) => view.scale > 0.99 * least", arg=scale * 1.25**steps)
    assert under_mouse() == pytest.approx(before, abs=1)
    start = page.evaluate(VIEW)
    page.mouse.down()
    page.mouse.move(box["x"] + point[0] - 50, box["y"] + point[1] + 20)
    page.mouse.up()
    now = page.evaluate(VIEW)
    assert (now["x"] - start["x"], now["y"] - start["y"]) == (-50, 20)
    for key, factor in [("-", 1 / 1.25), ("+", 1.25)]:
        scale = page.evaluate("view.scale")
        page.keyboard.press(key)
        assert page.evaluate("view.scale") == pytest.approx(scale * factor)
    x = page.evaluate("view.x")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("view.x") == x - 60
    page.keyboard.press("1")
    assert page.evaluate("view.scale") == 1
    page.keyboard.press("0")
    assert page.evaluate(VIEW) == whole
    page.locator("#viewer .zoom-in").click()
    assert page.evaluate("view.scale") == pytest.approx(1.25 * whole["scale"])


def test_two_fingers(open_report, report):
    page = open_report(report, 390, 844)
    open_view(page, 0)
    scale = page.evaluate("view.scale")
    page.evaluate("""() => {
        const stage = document.querySelector("#viewer canvas");
        const point = (type, pointerId, clientX) => stage.dispatchEvent(
            new PointerEvent(type, { pointerId, clientX, clientY: 300 }));
        stage.setPointerCapture = () => {};
        point("pointerdown", 1, 150);
        point("pointerdown", 2, 250);
        point("pointermove", 1, 100);
        point("pointermove", 2, 300);
        point("pointerup", 1, 100);
        point("pointerup", 2, 300);
    }""")
    assert page.evaluate("view.scale") == pytest.approx(2 * scale)


def test_keyboard_alone(open_report, report):
    """Into the view, through the images, judged, and back to the card."""
    page = open_report(report)
    order = page.locator(".card").evaluate_all("all => all.map((card) => card.dataset.index)")
    page.keyboard.press("n")
    page.keyboard.press("f")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    assert dialog.locator(".name").inner_text() == f"image {order[0]}"
    page.keyboard.press("d")
    assert dialog.locator(".name").inner_text() == f"image {order[1]}"
    page.keyboard.press("p")
    assert dialog.locator("[data-verdict=defect]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.dataset.index") == order[2]


def test_buttons_have_names(open_report, report):
    page = open_report(report)
    open_view(page, 1)
    buttons = page.locator("#viewer button:visible")
    names = buttons.evaluate_all("all => all.map((b) => b.ariaLabel ?? b.textContent.trim())")
    assert {"Close", "Zoom in", "Zoom out", "Whole", "Outlines", "Next region"} <= set(names)
    assert all(names)


class TestPrint:
    def printed(self, page):
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")

    def test_every_image_has_its_outlines(self, open_report, report, detector):
        """Also those that were never near the screen, at the threshold in force."""
        page = open_report(report, 1280, 400)
        page.locator("#number").fill(str(detector.threshold_ / 2))
        page.locator("#number").press("Enter")
        next_frame(page)
        self.printed(page)
        masks = fitted(
            [LONG[:, :200], LONG[:, 200:400]], threshold=page.evaluate("threshold()")
        ).segment(IMAGES)
        assert sum(mask.any() for mask in masks) > 3
        inside = """(index) => {
            const path = document.querySelector(`[data-index="${index}"] .outlines .found`);
            const { payload: { grid: [rows, columns] } } = byIndex.get(index);
            const shape = new Path2D(path.getAttribute("d"));
            const context = document.createElement("canvas").getContext("2d");
            context.lineWidth = 0.2;
            const isDrawn = (x, y) => Number(context.isPointInStroke(shape, x, y));
            return Array.from({ length: rows }, (_, y) =>
                Array.from({ length: columns }, (_, x) =>
                    [isDrawn(x + 0.5, y), isDrawn(x, y + 0.5)]));
        }"""
        for index, mask in enumerate(masks):
            blocks = np.pad(pooled(mask, 5 if index == 0 else 1), ((1, 0), (1, 0)))
            edges = np.stack([np.diff(blocks, axis=0)[:, 1:], np.diff(blocks, axis=1)[1:]], -1)
            np.testing.assert_array_equal(np.array(page.evaluate(inside, index)) == 1, edges)
        truth = page.locator('[data-index="0"] .outlines .true')
        assert truth.get_attribute("d")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator(".outlines path[d]").count() == 0

    def test_photographs_stand_in_it(self, open_report, report):
        """A PDF holds one picture for each image, printed as soon as the page is there."""
        page = open_report(report, 1280, 400)
        page.evaluate(
            "addEventListener('beforeprint', () => {"
            " window.nPrinted = document.querySelectorAll('.outlines .found[d]').length; })"
        )
        content = page.pdf()
        assert content.count(b"/Subtype /Image") >= len(IMAGES)
        assert page.evaluate("nPrinted") == len(IMAGES)
        assert page.evaluate(
            "[...document.images].every((image) => image.hidden || image.complete)"
        )

    def test_layout(self, open_report, report):
        """Cards are kept whole; what can only be clicked is left out."""
        page = open_report(report, scheme="dark")
        page.locator('[data-index="2"] [data-verdict=skip]').click()
        self.printed(page)
        styles = page.locator(".card").evaluate_all(
            "all => all.map((card) => getComputedStyle(card).breakInside)"
        )
        assert set(styles) == {"avoid"}
        for hidden in ("#slider", ".steps", ".filters", ".take-over", "[data-verdict]", "canvas"):
            assert not page.locator(hidden).first.is_visible()
        for shown in ("#in-force", "#called", ".outlines", ".photo"):
            assert page.locator(shown).first.is_visible()
        assert page.locator('[data-index="2"] .judged').inner_text() == "Verdict: skipped"
        assert (
            page.locator("#in-force").inner_text() == f"Threshold: {page.evaluate('threshold()')}"
        )
        colour = page.locator(".card h2").first.evaluate("e => getComputedStyle(e).color")
        assert colour == "rgb(27, 31, 36)"  # dark on white paper, however dark the screen is
