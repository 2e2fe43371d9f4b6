"""Whether a result stands: whether its job would have the same specification today, and the same code and environment.

One answer for all who ask: Snakemake's plan (snakemake_seam.py), what is left of a study (foreseen.py), and the tables of the report
(report/collect.py). A result says of itself what made it, so that the answer is the same for one that was copied, restored or moved,
whatever Snakemake remembers of the folder. Pure.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# What of a result may be another one by now, besides keys of its specification. Figures of older code and environments are shown as such;
# of other settings, weights or answers they are figures of something else.
CODE, ENVIRONMENT, WEIGHTS, ANSWERS = "code", "environment", "weights", "answers"
# Of a run that is to come after another one: that one was measured anew since.
ORDER = "order"
STILL_SHOWN = (CODE, ENVIRONMENT)
# The key of what a technique needs of the machine.
REQUIRES = "requires"
# Of a job whose specification names no environment: the one that prepares a model.
ENV_OF_MODELS = "transformers"
# Keys, and cells, that a sentence names.
NAMED = 6

# What is said of a record that is left out, and, in a sentence each, of the cells of a table (`notes`).
LEFT_OUT = "made with other settings than the study has now ({}); run the study again"
OTHER_SOURCE = "{} is no longer what this was made from; run the study again"
OTHER_WEIGHTS = "the weights beside {} are others by now; run the study again"
# Of a task before its scores, and of held-out text before the baseline's answers.
AWAITED = "is scored by a job that waits for the answers of all techniques"
BASELINE_AWAITED = "is held against the baseline once that has answered"
REASONS = (LEFT_OUT, OTHER_SOURCE, OTHER_WEIGHTS, AWAITED, BASELINE_AWAITED)
OLDER = "Cells made or measured by older code of speedgrid, or in another environment: {} of {} ({}). Run the study again."
OTHER = "The study has other settings, weights or answers by now ({}); what depends on them is left out, of: {}. Run the study again."
# Of results that no table of the study has.
NOT_IN_PLAN = "Measured cells among the results that are in no table, as this study does not have them: {} ({})."
# Of tables that are older than an edit of their study.
STUDY_EDITED = "{} has changed since these tables were made; they are of what it said then. Run it again, or make its page anew."
STUDY_UNREAD = "{}; these tables are of what the study said when they were made."


@dataclass(frozen=True)
class Wanted:
    """What the result of a job would be made of today: its specification, the fingerprint of its code (fingerprint.of), and the hash of its
    environment's file (environments.recipe_hash), empty where jobs run in the user's own Python. None is not known, and nothing is held
    against it."""

    job: Mapping
    code: str | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class Today:
    """What all results of a plan would be made of: specification and fingerprint by record, and the hash of each environment's file by its
    name, with nothing in it where jobs run in the user's own Python. Of a plan of before no more than the specifications are known, and
    `recipes` is None."""

    jobs: Mapping[str, Mapping]
    codes: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, str] | None = None

    def of(self, record: str) -> Wanted:
        """The specification, code and environment that the job that writes a record would have."""
        job = self.jobs[record]
        recipe = None if self.recipes is None else self.recipes.get(environment_of(job), "")
        return Wanted(job, self.codes.get(record), recipe)

    @classmethod
    def of_plan(cls, plan: Mapping) -> "Today":
        """As results/plan.json has it (planning.document)."""
        return cls(plan["jobs"], plan.get("codes", {}), plan.get("recipes"))


def environment_of(job: Mapping) -> str:
    """The name of the environment that a job runs in, by its specification."""
    return job.get("env") or ENV_OF_MODELS


def specification(facts: Mapping) -> dict:
    """The specification of the job that wrote a record, by the record's facts."""
    return json.loads(facts.get("job") or "{}")


def changed(facts: Mapping, wanted: Wanted) -> list[str]:
    """What of a record is no longer as it would be made: keys of the specification, such as `options.dtype`, then CODE and ENVIRONMENT.
    Empty for one that stands."""
    return settings(specification(facts), wanted.job) + made_by_older(facts, wanted)


def settings(done: Mapping, asked: Mapping) -> list[str]:
    """The keys in which two specifications differ. More that is required of the machine changes no result: what ran has run, and what could
    not would not today."""
    before, now = flat(done), flat(asked)
    if set(done.get(REQUIRES) or ()) <= set(asked.get(REQUIRES) or ()):
        now = {**now, REQUIRES: before.get(REQUIRES)}
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))


def made_by_older(facts: Mapping, wanted: Wanted) -> list[str]:
    """CODE and ENVIRONMENT, where those of a record are others by now; a record that does not say its code is of older code."""
    found = [CODE] if wanted.code is not None and (facts.get("code") or "") != wanted.code else []
    return found + ([ENVIRONMENT] if wanted.recipe is not None and (facts.get("recipe") or "") != wanted.recipe else [])


def made_from(facts: Mapping) -> dict[str, str]:
    """The records that a record was made from, each with what it was to it (records.Record.identity), by the record's facts."""
    return json.loads(facts.get("made_from") or "{}")


def is_of_another(facts: Mapping, source: str, identity: str, then: str | None = None) -> bool:
    """Whether a record was not made from the record `source`, or from another one of that name: `identity` is what that is today, empty
    where that is not known, and `then` what it was, where the record does not say it itself."""
    known = made_from(facts)
    if source in known:
        # What had none then, as a checkpoint that could not be made, is another one now.
        return bool(identity) and identity != known[source]
    return bool(known) or bool(identity and then and identity != then)


def is_out_of_order(facts: Mapping, before: Mapping) -> bool:
    """Whether a record was made wholly before one that it is to come after, by the facts of both."""
    ended, began = facts.get("ended_at"), before.get("started_at")
    return bool(ended and began and ended < began)


def flat(value: object, place: str = "") -> dict[str, object]:
    """A specification by places in it, such as {"settings.replies": 20}."""
    if not isinstance(value, Mapping):
        return {place: value}
    parts = [flat(inner, f"{place}.{name}" if place else str(name)) for name, inner in value.items()]
    return {name: inner for part in parts for name, inner in part.items()}


def left_out(keys: Sequence[str]) -> str:
    """Why a record with other settings is left out, in words."""
    return LEFT_OUT.format(named(keys))


def taken_apart(said: str, texts: Sequence[str] = REASONS) -> tuple[str, tuple[str, ...]] | None:
    """Which of these texts something was made of, and what was put into it, so that it can be translated; None where of none."""
    for text in texts:
        if found := re.fullmatch(re.escape(text).replace(re.escape("{}"), "(.*)"), said):
            return text, found.groups()
    return None


def not_in_plan(names: Sequence[str]) -> tuple[str, tuple]:
    """That so many measured cells are in no table: the text, and what is put into it."""
    return NOT_IN_PLAN, (len(names), named(names))


def named(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def notes(rows: Iterable[Mapping]) -> list[tuple[str, tuple]]:
    """What has to be said of rows of schema.SUMMARY whose cells are not as they would be measured today: texts, each with what is put into
    it; none where all are. The one place for all outputs, which may translate the texts."""
    measured, older = 0, []
    keys: dict[str, None] = {}
    others: dict[str, None] = {}
    for row in rows:
        changes = [change for change in (row["outdated"] or "").split(", ") if change]
        has_figures = row["rate"] is not None and row["rate"] == row["rate"]
        measured += has_figures
        if has_figures and set(changes) & set(STILL_SHOWN):
            older.append(row["label"])
        if other := [change for change in changes if change not in STILL_SHOWN]:
            keys |= dict.fromkeys(other)
            others[row["label"]] = None
    found: list[tuple[str, tuple]] = [(OLDER, (len(older), measured, named(list(dict.fromkeys(older)))))] if older else []
    return found + ([(OTHER, (named(list(keys)), named(list(others))))] if others else [])


def sentences(rows: Iterable[Mapping]) -> list[str]:
    """The same as sentences."""
    return [text.format(*values) for text, values in notes(rows)]
