"""A page of many cells in a real browser: filters, search, columns, address, keyboard, files, and what axe finds."""

import base64
import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "unit"))

import records_factory as made
from browsers import look_at, opened, until

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

MODELS = ("small", "middle", "large", "huge")
SHOWN = "return [...document.querySelectorAll('.group')].filter((group) => !group.hidden).map((group) => group.id)"
ROWS = """return [...document.querySelectorAll('#of-small-generate-local .results.replies tbody tr')].filter((row) => !row.hidden)
    .map((row) => row.cells[0].textContent)"""
MATRIX = """return [...document.querySelectorAll('.matrix thead th')].filter((head) => !head.hidden)
    .map((head) => head.textContent)"""
COLUMNS = """return [...document.querySelectorAll('#of-small-generate-local .results.replies thead th')]
    .filter((head) => getComputedStyle(head).display !== 'none').map((head) => head.innerText.split('\\n')[0].trim())"""


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A page of four models, which are folded away."""
    from report_data import page_of
    from speedgrid.report.rendering import read_parts

    folder = tmp_path_factory.mktemp("many")
    cells = [replace(cell, label="=HYPERLINK(1)" if cell.technique == "sdpa" else cell.label) for cell in made.DEFAULT_CELLS]
    grid = [cell for model in MODELS for cell in made.write_group(folder, cells, model=model)]
    path = folder / "report.html"
    path.write_text(page_of(grid, made.study(models=MODELS, cells=cells), read_parts()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(many, tmp_path_factory):
    with opened(many, tmp_path_factory.mktemp("profile"), 1440, "light") as driver:
        yield driver


@pytest.fixture(autouse=True)
def fresh(browser, many):
    browser.get("about:blank")
    browser.get(many.as_uri())
    yield
    wrong = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert wrong == []


def choose(browser, name, value):
    browser.execute_script(
        "const field = document.forms.filters.elements[arguments[0]]; field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', { bubbles: true }))",
        name,
        value,
    )


def open_group(browser, anchor):
    browser.execute_script("location.hash = arguments[0]", anchor)
    return until(browser, lambda: browser.find_elements("css selector", f"#{anchor} details.fold[open]"))


def test_nothing_is_drawn_before_its_section_is_opened(browser):
    assert browser.execute_script("return document.querySelectorAll('[data-chart] svg').length") == 0
    assert browser.execute_script("return document.querySelectorAll('details.fold').length") == 4
    open_group(browser, "of-middle-generate-local")
    look_at(browser, browser.find_element("id", "of-middle-generate-local-speed"))
    assert browser.execute_script("return document.querySelectorAll('#of-small-generate-local svg').length") == 0


def test_the_matrix_leads_to_each_group(browser):
    links = browser.find_elements("css selector", ".matrix tbody th a")
    assert [link.text for link in links] == list(MODELS)
    links[2].click()
    assert until(browser, lambda: browser.find_elements("css selector", "#of-large-generate-local details.fold[open]"))


def test_a_filter_hides_groups_rows_and_columns_of_the_matrix_and_says_how_many_are_left(browser):
    choose(browser, "model", "huge")
    assert browser.execute_script(SHOWN) == ["of-huge-generate-local"]
    choose(browser, "model", "")
    choose(browser, "family", "quantization")
    assert browser.execute_script(ROWS) == ["bitsandbytes INT8", "bitsandbytes NF4"]
    assert browser.find_element("css selector", "#filters output").text == "cells: 8 of 32; answers and the choice are of all"
    heads = browser.execute_script(
        "return [...document.querySelectorAll('.matrix thead th')].filter((th) => !th.hidden).map((th) => th.textContent)"
    )
    assert heads == ["Measured for", "bitsandbytes INT8", "bitsandbytes NF4"]
    browser.find_element("css selector", "#filters button[type=reset]").click()
    until(browser, lambda: browser.find_element("css selector", "#filters output").text == "cells: all 32")
    assert len(browser.execute_script(SHOWN)) == 4


LISTED = """return [...document.querySelectorAll(arguments[0])].filter((row) => row.checkVisibility()).map((row) => row.innerText)"""


def test_a_filter_reaches_every_list_of_cells(browser):
    assert len(browser.execute_script(LISTED, "#failed tbody tr")) == 4
    choose(browser, "model", "huge")
    (failed,) = browser.execute_script(LISTED, "#failed tbody tr")
    assert "huge · generate · local" in failed
    # Side by side are rows of a technique on all models: they stay while any of these is chosen.
    assert len(browser.execute_script(LISTED, "#side-by-side tbody tr")) > 3
    choose(browser, "model", "")
    choose(browser, "family", "compile")
    assert browser.execute_script(LISTED, "#failed tbody tr") == []
    assert not browser.find_element("css selector", "#failed .scroll").is_displayed()
    assert browser.find_element("css selector", "#failed h3").is_displayed()
    rows = browser.execute_script(LISTED, "#side-by-side tbody tr")
    assert rows
    assert all("torch.compile" in row for row in rows)
    box = look_at(browser, browser.find_element("id", "side-1"))
    labels = "return arguments[0].querySelector('svg')?.textContent ?? ''"
    until(browser, lambda: "torch.compile" in browser.execute_script(labels, box) and "SDPA" not in browser.execute_script(labels, box))
    open_group(browser, "of-small-generate-local")
    browser.execute_script("for (const part of document.querySelectorAll('#of-small-generate-local details')) part.open = true")
    names = {row.partition("\t")[0].strip() for row in browser.execute_script(LISTED, "#of-small-generate-local tbody tr")}
    assert not names & {"SDPA", "No KV cache", "bfloat16"}
    samples = browser.execute_script(LISTED, "#of-small-generate-local [data-label] h4")
    assert samples
    assert all("torch.compile" in label for label in samples)


def test_a_search_finds_names_of_techniques_and_models(browser):
    choose(browser, "q", "compile mid")
    assert browser.execute_script(SHOWN) == ["of-middle-generate-local"]
    choose(browser, "q", "nothing has this name")
    assert browser.execute_script(SHOWN) == []


def test_charts_show_what_the_filter_leaves(browser):
    open_group(browser, "of-small-generate-local")
    box = look_at(browser, browser.find_element("id", "of-small-generate-local-speed"))
    before = box.size["height"]
    choose(browser, "family", "quantization")
    labels = "return [...arguments[0].querySelectorAll('.role-axis-label text')].map((label) => label.textContent)"
    until(browser, lambda: box.get_attribute("data-state") == "drawn" and "SDPA" not in str(browser.execute_script(labels, box)))
    assert "bitsandbytes INT8" in browser.execute_script(labels, box)
    assert not any("torch.compile" in label for label in browser.execute_script(labels, box))
    assert box.size["height"] < before


def test_columns_are_chosen_by_preset_and_one_by_one_and_stand_in_the_address(browser, many):
    open_group(browser, "of-small-generate-local")
    standard = browser.execute_script(COLUMNS)
    assert len(standard) == 2 + 8
    assert "Peak memory" in standard
    choose(browser, "columns", "quality")
    quality = browser.execute_script(COLUMNS)
    assert "KL divergence" in quality
    assert "Peak memory" not in quality
    browser.execute_script("document.querySelector('.choose').open = true")
    tick = browser.find_element("css selector", "[name=show][value=memory_peak]")
    tick.click()
    assert "Peak memory" in browser.execute_script(COLUMNS)
    address = browser.execute_script("return location.href")
    browser.get("about:blank")
    browser.get(address)
    browser.execute_script("document.querySelector('#of-small-generate-local details.fold').open = true")
    assert browser.execute_script(COLUMNS) == [*quality[:-1], "Peak memory", quality[-1]] or "Peak memory" in browser.execute_script(
        COLUMNS
    )
    assert "KL divergence" in browser.execute_script(COLUMNS)


def test_a_filter_in_the_address_holds_when_the_page_is_opened_again(browser, many):
    choose(browser, "model", "large")
    address = browser.execute_script("return location.href")
    assert address.endswith("#model=large")
    browser.get("about:blank")
    browser.get(address)
    assert browser.execute_script(SHOWN) == ["of-large-generate-local"]


def test_the_keyboard_goes_from_mark_to_mark_of_a_chart(browser):
    from selenium.webdriver import Keys

    open_group(browser, "of-small-generate-local")
    box = look_at(browser, browser.find_element("id", "of-small-generate-local-speed"))
    box.send_keys(Keys.ARROW_RIGHT)
    said = until(browser, lambda: browser.execute_script("return document.getElementById('said').textContent"))
    assert "technique: torch.compile (static cache)" in said
    assert until(browser, lambda: browser.find_elements("css selector", "#vg-tooltip-element.visible"))
    box.send_keys(Keys.ARROW_RIGHT)
    assert until(browser, lambda: "technique: bfloat16" in browser.execute_script("return document.getElementById('said').textContent"))
    box.send_keys(Keys.ESCAPE)
    until(browser, lambda: not browser.find_elements("css selector", "#vg-tooltip-element.visible"))


def test_a_word_has_its_meaning_where_it_stands(browser):
    open_group(browser, "of-small-generate-local")
    head = browser.find_element("css selector", "#of-small-generate-local [data-word=speedup]")
    head.send_keys("")
    browser.execute_script("arguments[0].focus()", head)
    shown = browser.find_element("id", "word")
    assert shown.is_displayed()
    assert shown.text == browser.execute_script("return document.querySelector('#word-speedup dd').textContent")


SAVED = """
    window.saved = [];
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      const reader = new FileReader();
      reader.onload = () => saved.push([blob.type, reader.result]);
      reader.readAsDataURL(blob);
      return make(blob);
    };
    HTMLAnchorElement.prototype.click = function () {};
"""


def saved(browser, count):
    until(browser, lambda: browser.execute_script("return saved.length") == count)
    kind, data = browser.execute_script("return saved.at(-1)")
    return kind, base64.b64decode(data.partition(",")[2])


def test_a_chart_gives_its_data_and_itself(browser):
    open_group(browser, "of-small-generate-local")
    box = look_at(browser, browser.find_element("id", "of-small-generate-local-speedup"))
    browser.execute_script(SAVED)
    browser.execute_script("arguments[0].parentNode.querySelector('details.data').open = true", box)
    part = box.find_element("xpath", "..").find_element("css selector", "details.data")
    files = until(browser, lambda: {button.text: button for button in part.find_elements("css selector", "button")})
    assert {"SVG", "PNG"} < set(files)
    files["SVG"].click()
    kind, svg = saved(browser, 1)
    assert kind == "image/svg+xml"
    assert b"<svg" in svg
    assert b"var(--" not in svg
    files["PNG"].click()
    kind, png = saved(browser, 2)
    assert (kind, png[:4]) == ("image/png", b"\x89PNG")
    assert len(png) > 5000
    next(button for button in part.find_elements("css selector", "button") if button.text == "CSV").click()
    _, table = saved(browser, 3)
    assert "torch.compile (static cache)" in table.decode()
    assert part.find_elements("css selector", "table tr")


def test_the_data_of_a_chart_has_one_value_a_field_and_what_only_places_marks_is_none(browser):
    open_group(browser, "of-small-generate-local")
    told = browser.execute_script(
        "return [...document.querySelectorAll('#of-small-generate-local [data-chart]')].map((box) => [box.dataset.chart, tablesOf(box)])"
    )
    assert len(told) >= 8
    for chart, tables in told:
        assert tables, chart
        for heads, *lines in tables:
            assert "technique" in heads, chart
            assert len(heads) == len(set(heads)) > 1, (chart, heads)
            assert not {"row", "down", "edge", "end", "dx", "dy", "state", "kind"} & set(heads), (chart, heads)
            assert not [field for line in lines for field in line if isinstance(field, list | dict)], chart
    speeds = dict(told)["of-small-generate-local-speed"]
    assert ["technique", "token/s"] in [heads for heads, *_ in speeds], "a line a reply, with the unit"


def test_a_table_gives_all_its_columns_and_no_formula(browser):
    open_group(browser, "of-small-generate-local")
    browser.execute_script(SAVED)
    browser.execute_script(
        "document.querySelector('#of-small-generate-local .results').closest('.scroll').nextElementSibling.querySelector('button').click()"
    )
    _, text = saved(browser, 1)
    lines = text.decode().splitlines()
    assert lines[0].count(",") > 20
    assert any(line.startswith("'=HYPERLINK(1)") for line in lines)
    assert not any(line.startswith("=") for line in lines)


def test_a_table_gives_the_rows_that_are_shown_with_their_figures_in_the_units_of_the_heads(browser):
    """Its CSV had every row whatever was filtered, and bytes under a head that says MiB."""
    open_group(browser, "of-small-generate-local")
    choose(browser, "q", "torch.compile static")
    (shown,) = browser.execute_script(ROWS)
    browser.execute_script(SAVED)
    browser.execute_script(
        "document.querySelector('#of-small-generate-local .results').closest('.scroll').nextElementSibling.querySelector('button').click()"
    )
    heads, *rows = list(csv.reader(saved(browser, 1)[1].decode().splitlines()))
    assert [row[0] for row in rows] == [shown.strip()]
    text = browser.execute_script(
        "return [...document.querySelectorAll('#of-small-generate-local .results.replies tbody tr:not([hidden]) td')]"
        ".map((cell) => cell.firstChild?.textContent)"
    )
    at = next(place for place, head in enumerate(heads) if head.startswith("Peak memory"))
    assert heads[at].endswith("iB")
    # Intervals of speeds are columns of their own, in the unit of the figure between them.
    for name, unit in (("Speed", " token/s"), ("Speed-up", " ×")):
        value, low, high = (float(rows[0][heads.index(f"{name}{end}{unit}")]) for end in ("", ", lower bound", ", upper bound"))
        assert 0 < low < value < high, name
    assert float(rows[0][at]) == pytest.approx(float(text[at - 1].replace(",", "")), rel=0.006)


@pytest.mark.parametrize("part", ["closed", "open"])
def test_axe_finds_nothing_serious_or_moderate(browser, part):
    from axe_core_python.selenium import Axe

    if part == "open":
        open_group(browser, "of-small-generate-local")
        browser.execute_script("for (const part of document.querySelectorAll('#of-small-generate-local details')) part.open = true")
        for box in browser.find_elements("css selector", "#of-small-generate-local [data-chart]"):
            look_at(browser, box)
    found = Axe().run(browser)["violations"]
    assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found if one["impact"] != "minor"] == []
