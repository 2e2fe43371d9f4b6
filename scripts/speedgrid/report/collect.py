"""Reads what every job of a plan wrote, and makes the tables of it: the summary, the sizes, the runs.

The plan is JSON with the study, its cells and the jobs that they share (planning.document); paths in it are relative to the current
folder.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speedgrid import checkpoints, records, sharpen, standing
from speedgrid.progress import say
from speedgrid.report import command, early_scores, questions, tables, timeline, units, work
from speedgrid.report.bulk import in_bulk
from speedgrid.report.cells import CellRecords
from speedgrid.schema import (
    CHECKPOINT,
    EVALUATE,
    FAILED,
    MEASURE,
    MEASURED,
    MODEL,
    NOT_RUN,
    POINTS,
    PROBE,
    REFERENCE,
    REQUESTS,
    RUNS,
    SCORE,
    STATUSES,
    SUMMARY,
    WARMUP,
    Table,
    by_group,
    cell_of,
    group_of,
)
from speedgrid.workload import WORKLOADS

# The keys of a specification that say whose result its job writes.
WHOSE = ("gpu", "experiment", "model", "technique", "run")
# What the report uses none of: single tokens of replies, of which a large grid has millions, and what a reference expects next.
TOKENS = ("token_s", "token_ids")
NEXT_TOKENS = tuple(column.name for column in REFERENCE.columns if column.name not in ("status", "reason"))
# What a job says last where it leaves no record (stage.py): `measure cpu/e/m/t: failed while ...`, `...: stopped by SIGTERM while ...`.
LAST_WORDS = re.compile(r"[a-z]+ [^ ]+( \(run \d+\))?: (failed\b|stopped by )")


@dataclass(frozen=True)
class Gathered:
    """The rows of the three tables, a line for each record that cannot be read, and the other cells among the results (not_in_plan)."""

    summary: list[dict]
    points: list[dict]
    runs: list[dict]
    unreadable: list[str]
    others: Sequence[str] = ()

    def write(self, summary: Path, points: Path, runs: Path) -> None:
        """Write the tables, and say a line for each cell, and what is of older code or other settings. Raises RecordError where one cannot
        be written."""
        records.write(summary, SUMMARY, self.summary)
        records.write(points, POINTS, self.points)
        records.write(runs, RUNS, self.runs)
        for line in filter(None, (*headlines(self.summary), *standing.sentences(self.summary))):
            say(line)
        if self.others:
            text, values = standing.not_in_plan(self.others)
            say(text.format(*values))


def gather(plan: Mapping) -> Gathered:
    """Read every record of a plan that is there."""
    with in_bulk():
        unreadable: dict[str, None] = {}
        shared: dict[str, records.Record] = {}
        today = standing.Today.of_plan(plan)
        again = looked_at_again(plan)
        read = [
            replace(read_cell(cell, plan["jobs"], unreadable, shared, today), looks_again=group_of(cell) in again) for cell in plan["cells"]
        ]
        cells = work.at_common_points(with_early_scores(read, plan["jobs"]))
        speeds = work.speeds_by_size(cells)
        study = {"study": plan["study"]["name"], "study_sha256": plan["study"]["study_sha256"]}
        runs = timeline.with_times([study | row for row in tables.run_rows(cells)])
        return Gathered(tables.summary_rows(cells, speeds), work.point_rows(cells, speeds), runs, list(unreadable), not_in_plan(plan))


def looked_at_again(plan: Mapping) -> set[tuple]:
    """The groups of a plan of which what is said decides whether there are further runs: those with `runs: auto`, where the study has a
    budget for them, or `--sharpen` has asked for some. Of what is asked for a size no speeds are compared."""
    asked = [cell for cell in plan["cells"] if cell.get("further") is not None and not WORKLOADS[cell["workload"]].seeks_largest]
    return {group_of(cell) for cell in asked if plan["study"]["budget_s"] > 0 or cell["further"]}


def not_in_plan(plan: Mapping, at: Callable[[str], str] = str) -> list[str]:
    """The measured cells in the folder of results that the plan does not have, as of a device, model or technique that was renamed or
    taken out of the study, or of another study. `at` says where a file of the plan lies."""
    folders = [Path(at(cell["folder"])) for cell in plan["cells"]]
    if not folders:
        return []
    known = set(folders)
    found = [path for path in sorted(folders[0].parents[3].glob("*/*/*/*/measure.parquet")) if path.parent not in known]
    return ["/".join(path.parts[-5:-1]) for path in found if records.first_row(path, MEASURE).get("status") in MEASURED]


def note_further(plan: Mapping, summary: list[dict], path: Path) -> None:
    """Write down which cells whose runs are `auto` are to be measured again; planning reads it."""
    if all(cell.get("further") is None for cell in plan["cells"]):
        return
    asked = {group: questions.of(rows) for group, rows in by_group(summary).items()}
    further = sharpen.decide(plan["cells"], summary, asked, plan["study"]["budget_s"])
    with records.replacing(path) as temporary:
        temporary.write_text(further.as_json(), encoding="utf-8")
    had = {cell["folder"]: cell["further"] for cell in plan["cells"] if cell.get("further")}
    if further.open and further.wanted == had:
        how = command.run(plan["study"]["study_file"], sharpen=True)
        say(f"some comparisons are open, as the time for further runs is used up or the machine was never quiet; to go on: {how}")


def read_plan(path: Path) -> dict:
    """The plan: `study`, what the page says of it, `cells` with their files, in order, and `jobs` by the record that they write."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_cell(
    cell: dict,
    jobs: Mapping[str, Mapping],
    unreadable: dict[str, None] | None = None,
    shared: dict[str, records.Record] | None = None,
    today: standing.Today | None = None,
) -> CellRecords:
    """Read the records of one cell of the grid, for each of which `jobs` has the specification that its job would have now, and `today`
    what else it would be made of.

    What is not there has a record of its own kind in its place (records.absent), and so has what is of something else: of other settings
    than the study has now, or made from other weights than are there. There is a line in `unreadable` where it cannot be read or another
    job wrote it. Records that other cells have too are taken from `shared`, or put there.
    """
    known = {} if shared is None else shared
    reading = _Reading(cell, jobs, today or standing.Today(jobs), {} if unreadable is None else unreadable, known)
    folder, model = cell["folder"], cell["model_record"]
    prepared = reading.read(model, MODEL)
    sources: list[records.Record] = []
    made_from = model
    for path in (path for path in reversed((cell["checkpoint_record"], *cell["sources"])) if path != model):
        sources.append(reading.read(path, CHECKPOINT, made_from))
        made_from = path
    warmup = reading.read(f"{folder}/warmup.parquet", WARMUP, made_from)
    measure = reading.read(f"{folder}/measure.parquet", MEASURE, made_from, without=_unused)
    if measure.status == NOT_RUN and not measure.left_out:
        status, reason = why_not(reading.found)
        measure = records.absent(MEASURE, status, reason or cell.get("left_out", ""))
    again = [reading.read(path, MEASURE, made_from, without=_unused) for path in cell["again"]]
    requests = reading.read(cell["requests"], REQUESTS) if cell["requests"] else None
    reference = reading.read(cell["reference"], REFERENCE, model, without=NEXT_TOKENS) if cell["reference"] else None
    asked = [path for path in (cell["requests"], cell["reference"]) if path]
    evaluate = reading.read(f"{folder}/evaluate.parquet", EVALUATE, made_from, *asked) if cell["evaluate"] is not None else None
    return CellRecords(
        cell=cell,
        prepared=prepared,
        checkpoint=sources[-1] if sources else None,
        sources=sources[-2::-1],
        warmup=warmup,
        measure=measure,
        probe=reading.read(cell["probe"], PROBE),
        evaluate=evaluate,
        requests=requests,
        reference=reference,
        score=reading.score(cell["score"], evaluate) if cell["score"] else None,
        again=again,
        outdated=tuple(sorted(reading.outdated)),
    )


def with_early_scores(cells: Sequence[CellRecords], jobs: Mapping[str, Mapping]) -> list[CellRecords]:
    """The same cells; those that have answered and were not scored have `early` scores."""
    groups: dict[str, list[CellRecords]] = {}
    for one in cells:
        groups.setdefault(one.cell["score"], []).append(one)
    early: dict[tuple, list[dict]] = {}
    for path, own in groups.items():
        scored = {row["technique"] for one in own if one.score for row in one.score.rows} - {None}
        answers = {one.cell["technique"]: one.evaluate for one in own if one.evaluate and one.evaluate.is_there}
        if any(record.status in MEASURED and technique not in scored for technique, record in answers.items()):
            for row in early_scores.rows(jobs[path], answers, scored):
                early.setdefault(cell_of(row), []).append(row)
    return [replace(one, early=early.get(one.axes, ())) for one in cells]


def _unused(facts: Mapping) -> Collection[str]:
    """Columns of a run that the tables use none of. When its steps were complete shows what a disturbed run lost (disturbance.lost)."""
    return ("token_ids",) if facts.get("disturbed") else TOKENS


class _Reading:
    """Reads the records of a cell, one after another, and gathers what has changed since they were written."""

    def __init__(self, cell: Mapping, jobs: Mapping, today: standing.Today, unreadable: dict[str, None], shared: dict[str, records.Record]):
        self._cell, self._jobs, self._today, self._unreadable, self._shared = cell, jobs, today, unreadable, shared
        self.found: dict[str, records.Record] = {}
        self.outdated: set[str] = set()

    def read(self, path: str, table: Table, *made_from: str, without: records.Without = ()) -> records.Record:
        """A record, or what stands for it; `made_from` are the records read before that its job started from."""
        if (record := self._shared.get(path)) is None:
            record = find(path, table, self._jobs[path], self._unreadable, without)
            # Once a model, as blocks of all of its weights are read for it.
            if record.is_there and table is MODEL and checkpoints.replaced(Path(path), record.facts):
                record = records.absent(table, NOT_RUN, standing.OTHER_WEIGHTS.format(path), [standing.WEIGHTS])
            if not path.startswith(f"{self._cell['folder']}/"):
                self._shared[path] = record
        if record.is_there and (instead := self._of_another(record, made_from)):
            record = records.absent(table, NOT_RUN, *instead)
        self.found[path] = record
        self.outdated |= {*record.left_out, *self._older(path, record)}
        return record

    def _of_another(self, record: records.Record, made_from: Collection[str]) -> tuple[str, Sequence[str]] | None:
        """Why a record is of something else than is there, and what differs: one that it was made from is left out, or is another one by
        now. None where all are what they were."""
        known = standing.made_from(record.facts)
        for path in made_from:
            source = self.found[path]
            then = known.get(path) or (record.facts.get("checkpoint_sha256") if "checkpoint_sha256" in source.rows[0] else None)
            if source.left_out:
                return source.reason, source.left_out
            if standing.is_of_another(record.facts, path, source.identity if source.is_there else "", then):
                return standing.OTHER_SOURCE.format(path), [standing.WEIGHTS]
        return None

    def _older(self, path: str, record: records.Record) -> list[str]:
        return standing.made_by_older(record.facts, self._today.of(path)) if record.is_there else []

    def score(self, path: str, evaluate: records.Record | None) -> records.Record:
        """The scores of the cell's group, with the cell's own where its answers, `evaluate`, are not left out."""
        if (record := self._shared.get(path)) is None:
            record = self._shared[path] = find_score(path, self._jobs, self._unreadable)
        if not record.is_there:
            self.outdated |= set(record.left_out)
        elif self._cell["technique"] in record.left_out:
            self.outdated.add(standing.ANSWERS)
        elif evaluate is not None and evaluate.left_out:
            record = records.absent(SCORE, NOT_RUN, evaluate.reason, evaluate.left_out)
        self.outdated |= set(self._older(path, record))
        return record


def find_score(path: str, jobs: Mapping[str, Mapping], unreadable: dict[str, None], at: Callable[[str], str] = str) -> records.Record:
    """The scores of a group; `left_out` are the techniques whose rows are not in it, because they were scored by other answers than are
    there or are asked for now. Nothing where that is so of the baseline, which all are held against. `at` says where a file of the plan
    lies."""
    asked = jobs[path]
    record = find(at(path), SCORE, asked, unreadable, (), False)
    if not record.is_there:
        return record
    done, known = standing.specification(record.facts), standing.made_from(record.facts)
    keys = standing.settings({**done, "techniques": None}, {**asked, "techniques": None})
    scored = {entry["technique"]: entry for entry in done.get("techniques", ())}

    def is_of_others(entry: Mapping) -> bool:
        answers = entry["evaluate"]
        if entry["technique"] not in scored:  # not yet
            return entry["is_baseline"]
        now, said = records.seal_of(at(answers)), standing.specification(records.facts_of(at(answers)))
        is_asked = not said or not standing.settings(said, jobs[answers])
        return scored[entry["technique"]] != entry or known.get(answers, now) != now or not is_asked

    others = [entry for entry in asked.get("techniques", ()) if is_of_others(entry)]
    if not keys and any(entry["is_baseline"] for entry in others):
        keys = [standing.ANSWERS]
    names = {entry["technique"] for entry in others}
    rows = [row for row in record.rows if row["technique"] not in names]
    if keys or not rows:
        return _held(record, SCORE, keys or [standing.ANSWERS])
    return replace(record, rows=rows, left_out=sorted(names))


def scores_shown(path: str, jobs: Mapping[str, Mapping], answered: Collection[str], at: Callable[[str], str] = str) -> list[dict]:
    """The rows of a group's scores, and early ones of the techniques that have none and are `answered`: their answers stand. `at` says
    where a file of the plan lies."""
    asked, rows = jobs[path], find_score(path, jobs, {}, at).rows
    scored = {row["technique"] for row in rows} - {None}
    wanted = [entry for entry in asked.get("techniques", ()) if entry["technique"] in answered]
    if all(entry["technique"] in scored for entry in wanted):
        return rows
    # What is scored is not read again, but for what the others are held against.
    paths = {one["technique"]: one["evaluate"] for one in wanted if one["is_baseline"] or one["technique"] not in scored}
    answers = {technique: find(at(place), EVALUATE, jobs[place], {}) for technique, place in paths.items()}
    return rows + early_scores.rows(asked, answers, scored)


def _held(record: records.Record, table: Table, keys: Sequence[str]) -> records.Record:
    """A record, or, where keys of its specification are others by now, what stands for it."""
    return records.absent(table, NOT_RUN, standing.left_out(keys), keys) if keys else record


def check_writer(path: str, table: Table, record: records.Record, asked: Mapping) -> None:
    """Raise RecordError for a record of another cell or run, which somebody put in this one's place. What no row of it names, such as the
    technique by which a reference was computed, is one of the settings."""
    done, named = standing.specification(record.facts), {"run", *(column.name for column in table.columns)}
    for key in (key for key in WHOSE if key in named):
        if done.get(key) != asked.get(key):
            whose, wanted = ("/".join(str(one[key]) for key in WHOSE if one.get(key) is not None) for one in (done, asked))
            raise records.RecordError(f"{path}: is of {whose or 'another job'}, not of {wanted}; delete it and run again")


def find(
    path: str, table: Table, asked: Mapping, unreadable: dict[str, None], without: records.Without = (), is_held: bool = True
) -> records.Record:
    """A record of the job whose specification would be `asked`; that of its failure, where it is to be made anew (records.failed); or what
    stands for one that is not there, or, where it `is_held` to that, of other settings. The columns `without` are left empty."""
    for at in (Path(path), records.failed(path)):
        if at.exists():
            try:
                record = records.read(at, table, without)
                check_writer(path, table, record, asked)
                return _held(record, table, standing.settings(standing.specification(record.facts), asked)) if is_held else record
            except records.RecordError as error:
                unreadable[str(error)] = None
                return records.absent(table, FAILED, str(error))
    return records.absent(table, NOT_RUN, "")


def why_not(chain: Mapping[str, records.Record]) -> tuple[str, str]:
    """Status and reason of a cell that was not measured, by the records that come before and its own, in their order."""
    path, record = next((path, record) for path, record in chain.items() if record.status not in MEASURED)
    return record.status, record.reason or last_word(log_of(path))


def log_of(path: str) -> Path:
    """The log of the job that writes a record, as the rules name it."""
    parts = Path(path).with_suffix("").parts
    if parts[0] != "results":
        return Path("logs", *parts).with_suffix(".log")
    if parts[1] in ("checkpoints", "requests"):
        parts = ("results", "quantize" if parts[1] == "checkpoints" else parts[1], *parts[2:-1])
    return Path("logs", *parts[1:]).with_suffix(".log")


def last_word(log: Path) -> str:
    """Why a job left no record, where its log says so: it was stopped, or the machine was at fault."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = next((line for line in reversed(lines) if LAST_WORDS.match(line)), "")
    return f"{said.partition(': ')[2]} ({log})" if said else ""


def read_replies(path: str, asked: Mapping) -> records.Record:
    """The replies of a run without their single tokens; where there are none, a row that says so."""
    return find(path, MEASURE, asked, {}, TOKENS)


def headlines(summary: list[dict]) -> list[str]:
    """One line a cell, in columns: status, name, speed and speed-up with their 95 % intervals, or the reason why there are none."""
    lines = [(row["status"], "/".join(cell_of(row)), _figures(row)) for row in summary]
    status_width, name_width = max(map(len, STATUSES)), max((len(name) for _, name, _ in lines), default=0)
    return [f"{status:{status_width}}  {name:{name_width}}  {figures}".rstrip() for status, name, figures in lines]


def _figures(row: dict) -> str:
    if units.is_missing(row["rate"]):
        return row["reason"]
    speed, interval = units.with_interval(row["rate"], row["rate_low"], row["rate_high"])
    text = f"{speed:>7} {row['unit']}/s {f'({interval})' if interval else '':<15}"
    ratio, around = units.speedup(*(row[name] for name in ("speedup", "speedup_low", "speedup_high", "verdict")))
    return text if ratio == units.MISSING else f"{text} {ratio:>7} {f'({around})' if around else ''}"
