# speedgrid: which speed-up technique for your model on your GPU? From a study to a report, step by step.
from snakemake.utils import min_version

min_version("9.19")


# A study given with --configfile takes the place of the default one; it is not merged into it.
if not workflow.configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/quantize.smk"
include: "rules/measure.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        "results/report.html",
