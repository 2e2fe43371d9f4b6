"""What could not run, by kind, with what to do about it."""

import re
from dataclasses import replace

import records_factory as made
from report_data import page_of, tables_of
from speedgrid.report import failures
from speedgrid.schema import MEASURED, STATUSES

CELLS = [
    made.DEFAULT_CELLS[0],
    replace(made.DEFAULT_CELLS[1], peak=300),
    made.Made("a", "A", status="oom", reason="out of memory: asked for 2 GiB"),
    made.Made("b", "B", status="oom", reason="out of memory: asked for 2 GiB"),
    made.Made("c", "C", status="oom", reason="killed"),
    made.Made("d", "D", status="unsupported", reason="no `paged` attention here"),
]


def test_kinds_have_what_to_do_and_reasons_are_told_once(tmp_path):
    found = failures.kinds(tables_of(made.write_group(tmp_path, CELLS))[0])
    assert [(kind.status, kind.count) for kind in found] == [("oom", 3), ("unsupported", 1)]
    assert [(struck.reason, [label for label, *_ in struck.cells]) for struck in found[0].reasons] == [
        ("out of memory: asked for 2 GiB", ["A", "B"]),
        ("killed", ["C"]),
    ]
    assert found[0].instead == "What needed the least memory here: SDPA (0.315 GB), Baseline (eager attention) (0.944 GB)."
    assert found[1].instead == ""


def test_what_fitted_with_the_least_had_to_be_loaded_too(tmp_path):
    cells = [CELLS[0], replace(CELLS[1], facts={"memory_load_peak": 1000 * made.MIB}), *CELLS[2:]]
    found = failures.kinds(tables_of(made.write_group(tmp_path, cells))[0])
    assert found[0].instead == "What needed the least memory here: Baseline (eager attention) (0.944 GB), SDPA (1.05 GB)."


def test_what_pytorch_gave_out_stands_below_what_a_driver_told_with_what_cuda_takes(tmp_path):
    """Of 6.0 GiB by PyTorch a card needs 6.6, more than the 6.3 that the driver told of another technique."""
    by_pytorch = replace(CELLS[0], peak=6144, facts={"memory_source": "allocator"})
    by_driver = replace(CELLS[1], peak=6451, facts={"memory_source": "device"})
    found = failures.kinds(tables_of(made.write_group(tmp_path, [by_pytorch, by_driver, *CELLS[2:]]))[0])
    assert re.findall(r"(SDPA|Baseline)[^(]*", found[0].instead) == ["SDPA", "Baseline"]


def test_every_status_without_figures_says_what_to_do():
    without = set(STATUSES) - {*MEASURED, "not_run", "interrupted"}
    assert without == set(failures.TO_DO)


def test_the_page_tells_them_and_no_text_becomes_code(tmp_path):
    cells = [*CELLS, made.Made("e", "E", status="failed", reason="<script>x</script>")]
    html = page_of(made.write_group(tmp_path, cells), made.study(cells=cells))
    assert "Out of memory: 3 cells" in html
    assert "no <code>paged</code> attention here" in html
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert "What needed the least memory here: SDPA" in html


def test_where_all_ran_there_is_no_section(tmp_path):
    assert failures.kinds(tables_of(made.write_group(tmp_path, CELLS[:2]))[0]) == []
    assert 'id="failed"' not in page_of(made.write_group(tmp_path, CELLS[:2]), made.study(cells=CELLS))
