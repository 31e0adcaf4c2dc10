"""Pages are looked at in a browser, as a reader looks at them: from a file, without a network."""

import shutil
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
           "--disable-sync", "--no-first-run")  # fmt: skip


def pytest_collection_modifyitems(items):
    """One worker runs all tests with a browser, so that one browser is started at a time."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, for the tests of one file: while it runs, its event loop keeps out all others."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser, tmp_path):
    """Open a page of HTML (its text or its path); what it asks of a network or complains of fails the test.

    ``look(page, width=390, dark=True)`` returns playwright's page. Other options are those of ``new_context``.
    """
    contexts, complaints = [], []

    def open_page(page, *, width=1100, height=800, dark=False, **options):
        if not isinstance(page, Path):
            tmp_path.joinpath("page.html").write_text(page, encoding="utf-8")
            page = tmp_path / "page.html"
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(60_000)  # it passes only where a test fails: a busy machine takes long
        tab.on(
            "request",
            lambda asked: asked.url.startswith(("file:", "data:", "blob:")) or complaints.append(asked.url),
        )
        tab.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(page.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
