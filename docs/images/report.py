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
    """As somebody would who calls sound pieces good after all."""
    for card in page.locator(".card.defect").all():
        is_sound = card.locator(".outcome").inner_text() == "false alarm"
        card.locator(f"[data-verdict={'good' if is_sound else 'defect'}]").click()


def lower(page: Page, n_false_alarms: int) -> None:
    """Move the slider down until so many sound pieces are called defective."""
    while int(page.locator("#false-alarms").inner_text().split()[0]) < n_false_alarms:
        page.locator("#slider").press("ArrowLeft")
        page.wait_for_timeout(50)


def take(browser: Browser, report: Path) -> None:
    page = open_page(browser, report, 1280, 900)
    store(page, "report")
    lower(page, 3)
    judge(page)
    page.locator("#verdict-filter").select_option("good")
    page.evaluate("scrollTo(0, 0)")
    store(page, "report_verdicts")
    page.locator("#verdict-filter").select_option("all")
    page.locator("#reset").click()
    page.locator(".open-regions").first.click()
    store(page, "report_viewer")
    page = open_page(browser, report, 390, 844)
    lower(page, 1)
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
