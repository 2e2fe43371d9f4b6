"""A published page in a real browser: opened from its folder, with the code of its charts in a file beside it, and without that file."""

import shutil
from pathlib import Path

import pytest
from browsers import look_at, opened, until

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
# Written by the code of different days.
PAGES = ("h100/attention-gpu", "h200/engines-8b")


@pytest.mark.parametrize("name", PAGES)
def test_its_charts_are_drawn_by_the_shared_file(name, tmp_path):
    with opened(RESULTS / name / "report.html", tmp_path, 1440, "light") as browser:
        boxes = browser.find_elements("css selector", "[data-chart]")
        for box in boxes:
            look_at(browser, box)
        marks = browser.execute_script(
            "return [...document.querySelectorAll('[data-chart] svg')].map((svg) => svg.querySelectorAll('path').length)"
        )
        assert len(marks) == len(boxes) >= 5
        assert min(marks) > 3
        loaded = "return [...document.querySelectorAll('[src], link[href]')].map((part) => part.src)"
        assert browser.execute_script(loaded) == [(RESULTS / "vega.js").as_uri()]
        assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_without_the_file_it_says_which_one_is_missing_where_the_charts_would_be(tmp_path):
    alone = tmp_path / "a" / "b" / "report.html"
    alone.parent.mkdir(parents=True)
    shutil.copy(RESULTS / PAGES[-1] / "report.html", alone)
    with opened(alone, tmp_path / "profile", 1440, "light") as browser:
        box = browser.find_element("css selector", "[data-chart]")
        until(browser, lambda: box.get_attribute("data-state") == "failed")
        assert box.text == "This chart could not be drawn: ../../vega.js could not be loaded. Its figures are in the table."
        assert len(browser.find_elements("css selector", ".results tbody tr")) > 5
        # Whatever else the page does, it does: a click sorts the table.
        browser.execute_script("document.querySelector('.results thead button').click()")
        assert browser.find_elements("css selector", ".results th[aria-sort=ascending]")
