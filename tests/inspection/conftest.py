"""A Chromium for the tests that look at a report, and pages in it."""

import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    # Imported here, so that those without it can collect these tests and leave them out.
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "These tests drive Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_report(browser):
    """Opens a report; at the end nothing has failed, and nothing was asked of a network."""
    contexts, complaints, requests, opened = [], [], [], set()

    def open_report(url, width=1280, height=900, scheme="light", *, script="", context=None):
        if context is None:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            contexts.append(context)
        page = context.new_page()
        page.add_init_script(script)
        page.on("console", lambda m: complaints.extend([m.text] if m.type == "error" else []))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url)
        opened.add(url)
        page.wait_for_function("() => document.querySelector('.label').textContent")
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == opened
