started = grid.stage("warmup")
measured = grid.stage("measure")
measured_again = grid.stage("measure_again")


# Cold start of a cell, and what lasts of it on the disk.
rule warmup:
    input:
        **started.inputs,
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/warmup.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/warmup.log",
    priority: started.priority
    group:
        "cell"
    conda:
        started.env
    threads: started.threads
    resources:
        **started.resources,
    params:
        **started.params,
    message:
        "Cold start of {wildcards.technique} ({wildcards.model}, {wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/warmup.py" --job {params.job:q} --code {params.code:q}'
        " --checkpoint {input.checkpoint:q} --out {output:q} 3>&2 > {log:q} 2>&1"


# A further run of a cell: in a later round or, for a baseline, between and after the other cells. What runs of one cell differ by is noise.
rule measure_again:
    input:
        **measured_again.inputs,
        after="results/{gpu}/{experiment}/{model}/{technique}/measure.parquet",
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/measure-{run}.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/measure-{run}.log",
    priority: measured_again.priority
    conda:
        measured_again.env
    threads: measured_again.threads
    resources:
        **measured_again.resources,
    params:
        **measured_again.params,
    message:
        "Measuring {wildcards.technique} again, run {wildcards.run} ({wildcards.model}, {wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/measure.py" --job {params.job:q} --code {params.code:q}'
        " --checkpoint {input.checkpoint:q} --after {input.after:q} --out {output:q} 3>&2 > {log:q} 2>&1"


# The counted replies of a cell, alone on its device. On a cluster the first run shares a job with its warm-up (`group:`), which `use rule` can
# add to a rule but not remove from one.
use rule measure_again as measure with:
    input:
        **measured.inputs,
        after="results/{gpu}/{experiment}/{model}/{technique}/warmup.parquet",
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/measure.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/measure.log",
    priority: measured.priority
    group:
        "cell"
    message:
        "Measuring {wildcards.technique} ({wildcards.model}, {wildcards.gpu})"
