"""The page in a real browser: opened from a file with the network off, at the widths of a desk and of a phone."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "unit"))

import records_factory as made
from browsers import look_at, opened, until

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
CHARTS = "return [...document.querySelectorAll('[data-chart]')].map((box) => box.dataset.state ?? '')"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A page of two groups, one of them with names and texts that try to break out."""
    from report_data import page_of
    from speedgrid.report.rendering import read_parts

    folder = tmp_path_factory.mktemp("report")
    cells = [replace(cell, label=cell.label + HOSTILE, texts=(HOSTILE,)) for cell in made.DEFAULT_CELLS]
    cells = [replace(cell, reason=cell.reason + HOSTILE) if cell.reason else cell for cell in cells]
    gpu = {"gpu": "h200", "model": "llama-3b", "machine": made.GPU_MACHINE, "parameters": 3_210_000_000}
    grid = [*made.write_group(folder), *made.write_group(folder, cells, **gpu)]
    path = folder / "report.html"
    path.write_text(page_of(grid, made.study(models=("stdlib-llama", "llama-3b")), read_parts()), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[(1440, "light"), (390, "dark")], ids=["desk, light", "phone, dark"])
def browser(request, report, tmp_path_factory):
    """A browser without network that shows the report with all its charts drawn."""
    width, scheme = request.param
    with opened(report, tmp_path_factory.mktemp("profile"), width, scheme) as driver:
        # Charts are drawn where they are looked at.
        for box in driver.find_elements("css selector", "[data-chart]"):
            look_at(driver, box)
        yield driver


def test_every_chart_is_drawn_and_nothing_is_wrong(browser):
    states = browser.execute_script(CHARTS)
    assert set(states) == {"drawn"}
    assert len(states) >= 15
    marks = browser.execute_script(
        "return [...document.querySelectorAll('[data-chart] svg')].map((svg) => svg.querySelectorAll('path').length)"
    )
    assert len(marks) == len(states)
    assert min(marks) > 5
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_nothing_is_fetched(browser):
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert fetched == []


def test_hostile_names_and_texts_stay_text(browser):
    assert browser.title == "Speed-up techniques on this machine · speedgrid"
    assert browser.execute_script("return document.images.length") == 0
    assert HOSTILE in browser.execute_script("return document.body.textContent")


def test_the_page_is_no_wider_than_the_window(browser):
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = browser.execute_script(widths)
    assert there == browser.asked_width
    assert needed <= there
    ends = "return [...document.querySelectorAll('[data-chart] svg')].map((svg) => svg.getBoundingClientRect().right)"
    assert max(browser.execute_script(ends)) <= there + 0.5


def test_the_chart_that_proves_the_answer_is_beside_it_or_right_under_it(browser):
    places = """
    const article = document.querySelector('#answer article');
    return ['.headline', '.proof', 'ul'].map((part) => article.querySelector(':scope > ' + part).getBoundingClientRect())
      .map(({ left, right, top, bottom }) => ({ left, right, top, bottom }))
    """
    headline, proof, points = browser.execute_script(places)
    if browser.asked_width > 1000:
        assert proof["left"] >= headline["right"]
        assert abs(proof["top"] - headline["top"]) < 40
    else:
        assert headline["bottom"] <= proof["top"] < proof["bottom"] <= points["top"]


def test_chart_colours_are_those_of_the_page(browser):
    """A colour that the SVG cannot resolve would be black, in light and dark alike."""
    inks = browser.execute_script("""
        const probe = document.createElement('i');
        probe.style.color = 'var(--ink)';
        document.body.append(probe);
        const labels = document.querySelectorAll('[data-chart] svg .role-axis-label text');
        return [getComputedStyle(probe).color, ...[...labels].map((label) => getComputedStyle(label).fill)];
    """)
    assert inks[0] in inks[1:]
    assert "rgb(0, 0, 0)" not in inks


def test_a_click_on_a_column_sorts_the_table(browser):
    column = "[...document.querySelectorAll('.results')][0].querySelectorAll('thead button')[2]"
    speeds = "return [...document.querySelector('.results').tBodies[0].rows].map((row) => row.children[2].dataset.key)"
    for direction in (1, -1):
        browser.execute_script(f"{column}.click()")
        keys = browser.execute_script(speeds)
        assert keys[-1] == "", "rows without a figure stay last"
        figures = [float(key) * direction for key in keys[:-1]]
        assert figures == sorted(figures)


def test_a_tooltip_is_plain_text(browser):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    bar = browser.find_elements(By.CSS_SELECTOR, "#of-llama-3b-generate-h200-speed .mark-rect path")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", bar)
    ActionChains(browser).move_to_element(bar).perform()
    found = until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible"))
    assert "technique" in found[0].text
    assert "<script>" in found[0].text
    assert browser.execute_script("return document.querySelectorAll('#vg-tooltip-element img, #vg-tooltip-element script').length") == 0
