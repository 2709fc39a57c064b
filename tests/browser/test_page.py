"""The report in a real browser, from disk: ``make test-browser``, which installs what it needs; nothing is skipped."""

import shutil

import pytest
from playwright.sync_api import sync_playwright
from report.made_run import TRICKY, write_run

from mtdnn.report.write import write_report

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = write_run(folder / "made", {"plain": 0.6, "joint": 0.62, "smart": 0.95})
    write_report([run], folder / "report")
    return (folder / "report/report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    assert chromium, "no chromium on PATH; make test-browser installs it"
    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser, address):
    """A page, at desktop width, and what its console and its network said."""
    page = browser.new_page(viewport=DESKTOP)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page, said, asked
    page.close()


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_tables_and_figures_are_there_without_an_error_or_a_network(opened, address):
    page, said, asked = opened
    assert page.locator("main table").count() > 8
    assert page.locator("main svg[role=img]").count() > 5
    assert page.locator("#results td").first.is_visible()
    assert said == []
    assert asked == [address]


def test_a_script_in_a_label_stays_text(opened):
    page, _, _ = opened
    assert page.title() == "made"
    assert page.locator("script").count() == 1
    page.locator("#confusion summary").click()
    assert page.locator("#confusion th", has_text=TRICKY).first.is_visible()


def test_dark_mode_is_the_systems_and_the_button_changes_it(opened):
    page, _, _ = opened
    page.emulate_media(color_scheme="light")
    light = background(page)
    page.emulate_media(color_scheme="dark")
    dark = background(page)
    assert dark != light
    page.reload()
    assert page.locator("#theme").inner_text() == "Light"
    page.locator("#theme").click()
    assert background(page) == light
    assert page.locator("#theme").inner_text() == "Dark"


def test_it_is_used_with_the_keyboard_alone(opened):
    page, _, _ = opened
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#calibration summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#calibration svg").first.is_visible()
    tables = page.locator("[role=region]")
    assert all(tables.nth(number).get_attribute("tabindex") == "0" for number in range(tables.count()))


def test_a_phone_scrolls_tables_and_never_the_page(opened):
    page, _, _ = opened
    page.set_viewport_size(PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_link_to_a_folded_part_unfolds_it(opened):
    page, _, _ = opened
    page.locator("nav a", has_text="Perturbations").click()
    page.locator("#diagnostics table").wait_for()


def test_it_prints_with_everything_unfolded(opened):
    page, _, _ = opened
    page.locator("#theme").click()
    page.emulate_media(media="print")
    assert luminance(background(page)) > 0.9
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert page.locator("details[open]").count() == page.locator("details").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(opened, scheme):
    """Contrast of at least 4.5 to 1 (WCAG 2.1, 1.4.3) for text, notes and links."""
    page, _, _ = opened
    page.emulate_media(color_scheme=scheme)
    behind = luminance(background(page))
    for place in ("p", ".note", "nav a", "svg text"):
        prop = "fill" if place.startswith("svg") else "color"
        ink = luminance(page.evaluate(f"getComputedStyle(document.querySelector('{place}')).{prop}"))
        low, high = sorted([ink, behind])
        assert (high + 0.05) / (low + 0.05) >= 4.5, place


def luminance(colour):
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2.1)."""
    shares = [int(each) / 255 for each in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
