"""The report in a real browser: silent console, no request, keyboard, narrow, dark, on paper."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from chromium_driver import Browser, executable
from lastlayer.evaluation import Proportion
from lastlayer.report import (
    ClassPair,
    ComparedPair,
    ComparedRun,
    ComparisonData,
    Differs,
    figure_files,
    render_comparison,
    render_report,
)
from lastlayer.report.thumbnails import pictures
from report_fixtures import HOSTILE, hostile_data, report_data

PROGRAM = executable()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")

DIGITS = tuple("0123456789")
MANY = tuple(f"class {k}" for k in range(40))
OPEN = "document.getElementById('viewer').open"


def compared():
    """A comparison of runs with hostile names."""
    bad = "".join(HOSTILE)
    shown = [pixmap for _, pixmap in pictures(report_data())[:8]]
    only = tuple(Differs(bad, bad, bad, bad, pixmap) for pixmap in (*shown, None))
    pair = ComparedPair(bad, bad, "+1", "exact McNemar", "0.5", "0.5", bad, "", 40, 9, 9, 2, (only, only),
                        [ClassPair(bad, Proportion(9, 30), Proportion(12, 30))] * 2)  # fmt: skip
    run = ComparedRun(bad, Proportion(49, 60), "82%", 2)
    return ComparisonData("accuracy", "test", 60, "name", "now", bad, (run, run), (pair,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    reports = {
        "digits": report_data(class_names=DIGITS, N=300),
        "many": report_data(class_names=MANY, N=400),
        "hostile": hostile_data(),
    }
    for name, data in reports.items():
        (folder / f"{name}.html").write_text(render_report(data), encoding="utf-8")
    (folder / "compared.html").write_text(render_comparison(compared()), encoding="utf-8")
    planted = render_report(report_data()).replace(
        "<main", "<img src='https://example.invalid/x.png'><p onclick='1' style='color:red'></p><script>1</script><main"
    )
    (folder / "planted.html").write_text(planted, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def browser():
    with Browser(PROGRAM) as started:
        yield started


def open_report(browser, folder, name):
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    browser.open((folder / f"{name}.html").as_uri())


@pytest.mark.parametrize("name", ["digits", "many", "hostile", "compared"])
def test_console_is_silent_and_no_request_leaves_the_file(browser, folder, name):
    open_report(browser, folder, name)
    assert browser.run("Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
    assert browser.complaints() == []
    assert browser.requests() == [(folder / f"{name}.html").as_uri()]


def test_the_checks_above_notice_a_load_an_inline_script_and_an_inline_style(browser, folder):
    open_report(browser, folder, "planted")
    text = str(browser.complaints())
    for directive in ("img-src", "script-src", "style-src"):
        assert directive in text


def test_a_cell_opens_its_pictures_by_keyboard_and_gives_the_focus_back(browser, folder):
    open_report(browser, folder, "digits")
    browser.run("document.querySelector('td a[data-gallery]').focus()")
    count = browser.run("document.activeElement.textContent")
    browser.key("Enter", 13)
    assert browser.run(OPEN)
    assert browser.run("document.activeElement.id") == "viewer-title"
    assert browser.run("document.querySelectorAll('#viewer img').length") == min(3, int(count))
    browser.key("Escape", 27)
    assert not browser.run(OPEN)
    assert browser.run("document.activeElement.matches('td a[data-gallery]')")


def test_without_script_a_cell_leads_to_its_pictures(browser, folder):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        open_report(browser, folder, "digits")
        address = (folder / "digits.html").as_uri() + "#" + browser.run("document.querySelector('.shots[id]').id")
        browser.call("Page.navigate", url=address)
        deadline = time.monotonic() + 10
        while not browser.run("document.querySelector('details.gallery').open"):
            assert time.monotonic() < deadline, "the pictures stay folded"
            time.sleep(0.05)
        assert browser.run("document.querySelectorAll('thead button').length") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def _column(browser, column):
    return browser.run(
        f"Array.from(document.querySelector('.classes').tBodies[0].rows, r => r.cells[{column}].dataset.v)"
    )


def test_the_table_of_classes_sorts_both_ways(browser, folder):
    open_report(browser, folder, "digits")
    button = "document.querySelectorAll('.classes th')[2].querySelector('button')"
    for direction in (1, -1):
        browser.run(f"{button}.click()")
        recalls = [direction * float(v) for v in _column(browser, 2)]
        assert recalls == sorted(recalls)
        assert browser.run("document.querySelectorAll('.classes th')[2].ariaSort") == (
            "ascending" if direction == 1 else "descending"
        )
    browser.run("document.querySelector('.classes th button').click()")
    assert [int(v) for v in _column(browser, 0)] == list(range(10))


@pytest.mark.parametrize("name", ["digits", "many", "hostile", "compared"])
@pytest.mark.parametrize("width", [320, 400, 1200])
def test_no_sideways_scrolling_at_any_width(browser, folder, name, width):
    open_report(browser, folder, name)
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 1000
    )
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_dark_scheme_is_dark_and_light_is_light(browser, folder):
    brightness = {}
    for scheme in ("light", "dark"):
        open_report(browser, folder, "digits")
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        picture = Image.open(io.BytesIO(browser.screenshot())).convert("L")
        brightness[scheme] = np.asarray(picture).mean()
    assert brightness["light"] > 200
    assert brightness["dark"] < 60


def test_zoom_enlarges_the_large_matrix(browser, folder):
    open_report(browser, folder, "many")
    width = "document.querySelector('.map').getBoundingClientRect().width"
    before = browser.run(width)
    browser.run("document.querySelector('.zoom input[value=\"4\"]').click()")
    assert browser.run(width) == pytest.approx(4 * before, rel=0.05)


def test_prints_and_folds_up_again(browser, folder):
    open_report(browser, folder, "digits")
    opened = "document.querySelectorAll('details[open]').length"
    before = browser.run(opened)
    assert browser.pdf().startswith(b"%PDF")
    assert browser.run(opened) == before


def test_every_cell_that_holds_images_opens_them_the_right_answers_too(browser, folder):
    open_report(browser, folder, "digits")
    cells = "document.querySelectorAll('.matrix tbody td:not(.sum)')"
    assert browser.run(
        f"Array.from({cells}).every(c => !Number(c.textContent) || c.className[0] == 'd' || c.querySelector('a'))"
    )
    browser.run("document.querySelector('.matrix td.o5 a, .matrix td.o10 a, .matrix td a').click()")
    assert browser.run(OPEN)


def test_a_mark_of_the_large_matrix_opens_its_pictures(browser, folder):
    open_report(browser, folder, "many")
    click = "new MouseEvent('click', {bubbles: true, cancelable: true})"
    browser.run(f"document.querySelector('svg a[data-gallery]').dispatchEvent({click})")
    assert browser.run(OPEN)
    assert browser.run("document.querySelectorAll('#viewer img').length") > 0
    browser.run("document.getElementById('viewer-close').click()")
    assert not browser.run(OPEN)


def test_figure_files_draw_on_their_own(browser, tmp_path):
    for name, content in figure_files(report_data()).items():
        (tmp_path / name).write_bytes(content)
        browser.open((tmp_path / name).as_uri())
        assert browser.complaints() == []
        if name.endswith(".svg"):
            assert browser.run("document.querySelector('text').getBoundingClientRect().width") > 5
