"""Takes the pictures of a report: judged images, and one at full size, also on a phone.

Needs ``pip install "sklearn-ssimae[browser]"`` and Debian's chromium::

    python docs/images/report.py  # a minute of one core
"""

import io
import runpy
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent
EXAMPLE = FOLDER.parents[1] / "examples" / "report_of_cloth.py"


def store(page: Page, name: str) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)  # until all that is on the screen is drawn
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.save(FOLDER / f"{name}.webp", quality=80, method=6)


def open_page(browser: Browser, report: Path, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(report.as_uri())
    return page


def judge(page: Page) -> None:
    """The first images as somebody would who calls the sound pieces good after all."""
    for place, is_sound in enumerate(page.locator("h2").all_inner_texts()[:14]):
        verdict = "good" if is_sound.startswith("good") else "defect"
        page.locator(".card").nth(place).locator(f"[data-verdict={verdict}]").click()


def take(browser: Browser, report: Path) -> None:
    page = open_page(browser, report, 1280, 900)
    page.locator("#slider").press("PageDown")
    store(page, "report")
    judge(page)
    page.locator("#label-filter").select_option("called defective")
    page.locator("#verdict-filter").select_option("good")
    page.evaluate("scrollTo(0, 0)")
    store(page, "report_verdicts")
    page.locator("#verdict-filter").select_option("all")
    page.locator(".open-regions").first.click()
    page.keyboard.press("r")
    store(page, "report_viewer")
    page = open_page(browser, report, 390, 844)
    judge(page)
    page.locator(".card").nth(1).scroll_into_view_if_needed()
    store(page, "report_phone")


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = Path(folder) / "cloth.html"
        runpy.run_path(str(EXAMPLE))["main"](report)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        take(browser, report)
        browser.close()


if __name__ == "__main__":
    main()
