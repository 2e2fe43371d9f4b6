# speedgrid: which speed-up technique for your model on your GPU? From a study to a report, step by step.
from snakemake.utils import min_version

min_version("9.19")


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/quantize.smk"
include: "rules/probe.smk"
include: "rules/measure.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        "results/report.html",
        # What the report is made of, too: where a file of it is gone, it is made again.
        "results/plan.json",
        grid.tables(),
        grid.probes(),
        grid.records(),
    message:
        "The report is there, with all that it is made of"


# All that a study downloads, for jobs on nodes without a network: what `./speedgrid prepare` asks for.
rule prepare:
    input:
        grid.downloaded(),
