"""What the first screen says in a real browser: of recorded runs, of a lossy technique, and where there is little to say."""

import csv
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "unit"))

import records_factory as made
from browsers import opened, until
from speedgrid.report import rendering

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow]

RECORDED = Path(__file__).resolve().parent.parent / "data" / "replies.csv"
HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
LABELS = {
    "baseline": "Baseline (eager attention)",
    "torch_compile": "torch.compile",
    "vllm": "vLLM",
    "sdpa": "SDPA",
    "bf16": "bfloat16",
    "bnb_int8": "INT8",
    "bnb_nf4": "NF4",
    "no_kv_cache": "No KV cache",
    "torch_compile_naive": "torch.compile (one line)",
}
FAMILIES = {"vllm": "engine", "torch_compile": "compile", "torch_compile_naive": "compile", "sdpa": "attention", "bf16": "precision"}
# Of SmolLM2-135M, as tests/data/README.md has them; the others have the baseline's weights.
BITS_PER_BYTE = {"bf16": 0.6690, "bnb_int8": 0.6748, "bnb_nf4": 0.7428}


def recorded(machine: str) -> list[made.Made]:
    """The cells of a recorded case, with the replies that were counted."""
    seconds: dict[str, dict[str, list[float]]] = {}
    with open(RECORDED, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["machine"] == machine]
    for row in rows:
        seconds.setdefault(row["technique"], {}).setdefault(row["run"], []).append(float(row["reply_s"]))
    new_tokens = int(rows[0]["new_tokens"])
    lossy = set(BITS_PER_BYTE)
    return [
        made.Made(
            *(name, LABELS[name], FAMILIES.get(name, "reference")),
            recorded=tuple(runs.values()),
            new_tokens=new_tokens,
            replies=len(next(iter(runs.values()))),
            lossless=name not in lossy,
            bits_per_byte=BITS_PER_BYTE.get(name, 0.6688),
        )
        for name, runs in seconds.items()
    ]


@pytest.fixture(scope="module")
def parts():
    return rendering.read_parts()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    blank = tmp_path_factory.mktemp("blank") / "blank.html"
    blank.write_text("<!DOCTYPE html><title>blank</title>", encoding="utf-8")
    with opened(blank, tmp_path_factory.mktemp("profile"), 1280, "light") as driver:
        yield driver


@pytest.fixture
def first_screen(browser, parts, tmp_path):
    """What the answer says on the page of some cells, as one line; the browser stays there. At the end nothing may have gone wrong."""
    from report_data import page_of

    def shown(cells: Sequence[made.Made], **options) -> str:
        grid = made.write_group(tmp_path, cells, **options) if cells else []
        models = (options.get("model", "stdlib-llama"),) if cells else ()
        path = tmp_path / "report.html"
        path.write_text(page_of(grid, made.study(models=models, cells=cells), parts), encoding="utf-8")
        browser.get(path.as_uri())
        for box in browser.find_elements("css selector", "#answer [data-chart]"):
            until(browser, lambda box=box: box.get_attribute("data-state") == "drawn")
        browser.execute_script("for (const part of document.querySelectorAll('#answer .more')) part.open = true")
        said = browser.execute_script("return document.getElementById('answer').innerText")
        return re.sub(r"\s+", " ", said)

    yield shown
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    assert browser.title == "Speed-up techniques on this machine · speedgrid"


def headline(browser) -> str:
    return re.sub(r"\s+", " ", browser.find_element("css selector", "#answer .headline").text)


def test_on_an_h200_vllm_leads_torch_compile_and_that_the_baseline(browser, first_screen):
    told = {"machine": made.GPU_MACHINE, "model": "llama-8b-shape", "parameters": 8 * 10**9, "quality_meaningful": False}
    said = first_screen(recorded("h200-8b"), **told)
    assert re.match(r"vLLM is the fastest: 20\d(\.\d)? token/s \(.*\), a speed-up of 6\.9× .* over Baseline", headline(browser))
    assert re.search(r"Faster than Baseline \(eager attention\), too: torch\.compile 4\.6×", said)
    # Random weights say nothing of quality, and the page does not pretend that they do.
    assert "Quality of vLLM: not measured (the model's weights are random)" in said
    chart = browser.find_element("css selector", "#answer [data-chart]").get_attribute("aria-label")
    assert re.search(r"vLLM 6\.9.*torch\.compile 4\.6.*Baseline \(eager attention\) 1×", chart)


def test_at_135_m_on_two_cores_torch_compile_leads_and_what_costs_quality_is_behind(browser, first_screen):
    said = first_screen(recorded("two-cores-135m"), model="smollm2-135m", parameters=135 * 10**6)
    assert re.match(r"(Without a measurable loss of quality, )?torch\.compile (leads with|is the fastest:) 1\d", headline(browser))
    assert re.search(r"a speed-up of 1\.\d+× .* over Baseline \(eager attention\)", headline(browser))
    assert re.search(r"Slower than Baseline \(eager attention\): No KV cache .* NF4 0\.\d+× .* INT8 0\.\d+×", said)


# Pruned to half: twice as fast, and the model has forgotten what it knew.
PRUNED = made.Made("prune_50", "Pruned by 50 %", "compression", 96.0, peak=500, bits_per_byte=5.2, lossless=False, again=(95.0, 97.0))


def test_a_model_that_was_pruned_to_nothing_never_leads_and_stands_with_its_price(browser, first_screen):
    cells = [replace(made.DEFAULT_CELLS[0], again=(48.2, 47.8)), PRUNED, replace(made.DEFAULT_CELLS[1], again=(50.4, 50.6))]
    said = first_screen(cells)
    assert headline(browser).startswith(
        "Without a measurable loss of quality, nothing here is surely faster than Baseline (eager attention)"
    )
    assert "The highest speed is that of SDPA: 5" in headline(browser)
    assert "Pruned" not in headline(browser)
    assert re.search(r"Faster at a price: Pruned by 50 % 2\.0× \([\d.–]+\) for \+174 % bits per byte", said)
    assert re.search(r"Less memory at a price: Pruned by 50 % 500 MiB \(−44 %\) for \+174 % bits per byte, [\d.]+× as fast", said)
    # The guide, too: not unless any loss is accepted.
    choice = "return document.getElementById('guide-answer').dataset.choice"
    assert browser.execute_script(choice) == "sdpa"
    browser.execute_script(
        "const form = document.getElementById('guide'); form.elements.loss.value = '';"
        "form.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    assert browser.execute_script(choice) == "prune_50"
    assert "for +174 % bits per byte" in said


def test_an_empty_plan_says_that_it_is_empty(browser, first_screen):
    assert "The study plans no cell, so there is nothing to measure" in first_screen([])
    assert browser.find_elements("css selector", "#filters, [data-chart]") == []


def test_one_cell_is_no_comparison(browser, first_screen):
    said = first_screen([made.DEFAULT_CELLS[0]])
    assert re.match(r"Only Baseline \(eager attention\) was measured: 4\d(\.\d)? token/s", headline(browser))
    assert not re.search("(is|are) the fastest", said)
    assert "leads" not in said


STRUCK = {"status": "oom", "reason": "out of memory: asked for 2 GiB", "replies": 20}


def test_where_all_failed_there_is_no_answer_and_the_reasons_are_a_click_away(browser, first_screen):
    said = first_screen([replace(cell, **STRUCK) for cell in made.DEFAULT_CELLS[:3]])
    assert headline(browser) == "Nothing could be measured here, so there is no answer."
    assert "Baseline (eager attention) (out of memory)" in said
    assert "Intervals" not in said
    browser.find_element("css selector", "#answer a[href='#failed']").click()
    assert "asked for 2 GiB" in browser.find_element("id", "failed").text


def test_without_a_baseline_there_are_speeds_and_no_speed_up(browser, first_screen):
    said = first_screen([replace(made.DEFAULT_CELLS[0], **STRUCK), *made.DEFAULT_CELLS[1:3]])
    assert re.match(r"torch\.compile \(static cache\) is the fastest: 9\d token/s", headline(browser))
    assert "There is no speed-up, because the baseline has no figures" in headline(browser)
    assert not re.search(r"\d×( \(|,| over)", headline(browser))
    assert "Could not be measured: Baseline (eager attention) (out of memory)" in said


def test_hostile_names_are_text(browser, first_screen):
    cells = [
        replace(cell, label=cell.label + HOSTILE, texts=(HOSTILE,), reason=cell.reason and cell.reason + HOSTILE)
        for cell in made.DEFAULT_CELLS
    ]
    said = first_screen(cells)
    assert headline(browser).startswith(f"Without a measurable loss of quality, torch.compile (static cache){HOSTILE} is the fastest")
    assert HOSTILE in said
    assert browser.execute_script("return document.images.length") == 0


def test_on_paper_what_is_folded_away_is_unfolded_and_words_of_heads_stay_whole(browser, first_screen):
    first_screen(made.DEFAULT_CELLS)
    evidence = browser.execute_script("return document.querySelector('[aria-label^=Evidence] table')")
    shown = "return arguments[0].checkVisibility({ contentVisibilityAuto: true })"
    assert not browser.execute_script(shown, evidence)
    try:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert until(browser, lambda: browser.execute_script(shown, evidence))
        head = evidence.find_element("css selector", "thead th")
        assert head.size["width"] > 40
        assert not browser.find_element("id", "filters").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_charts_that_nobody_looked_at_are_drawn_for_paper(browser, first_screen):
    first_screen(made.DEFAULT_CELLS)
    states = "return [...document.querySelectorAll('[data-chart]')].map((box) => box.dataset.state)"
    assert until(browser, lambda: set(browser.execute_script(states)) == {"drawn"})
    assert browser.execute_script("return scrollY") == 0


PAPER = {"width": 1039, "height": 710, "deviceScaleFactor": 1, "mobile": False}  # A4 across, within its margins
ON_PAPER = """
    return [...document.querySelectorAll('table.results, table.scores, table.fits')].filter((table) => table.checkVisibility())
      .map((table) => [parseFloat(getComputedStyle(table).fontSize), table.getBoundingClientRect().right])
"""


def test_on_paper_tables_are_whole_and_their_letters_can_be_read(browser, first_screen):
    """Figures were printed in 6.5 points."""
    first_screen(made.DEFAULT_CELLS, gpu="h200", machine=made.GPU_MACHINE)
    try:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PAPER)
        found = browser.execute_script(ON_PAPER)
        assert len(found) >= 3
        assert min(size for size, _ in found) >= 8 * 96 / 72
        assert max(right for _, right in found) <= PAPER["width"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_who_has_to_choose_sees_few_sentences_and_the_rest_by_a_click(browser, first_screen):
    first_screen(made.DEFAULT_CELLS)
    browser.refresh()
    shown = "return [...document.querySelectorAll('#answer :is(.headline, li)')].filter((part) => part.checkVisibility()).length"
    assert 3 <= browser.execute_script(shown) <= 5
    browser.find_element("css selector", "#answer .more > summary").click()
    assert browser.execute_script(shown) > 8
    assert "Noise between runs" in browser.find_element("css selector", "#answer .doubts").text
