# Cold start of a cell, and what lasts of it on the disk.
rule warmup:
    input:
        checkpoint=grid.checkpoint,
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/warmup.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/warmup.log",
    priority: grid.turn
    group:
        "cell"
    conda:
        grid.env
    threads: grid.threads
    resources:
        **grid.measuring,
    params:
        code=grid.warmup_code,
        job=grid.warmup_job,
    message:
        "Cold start of {wildcards.technique} ({wildcards.model}, {wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/warmup.py" --job {params.job:q} --checkpoint {input.checkpoint:q} --out {output:q} 3>&2 > {log:q} 2>&1'


# The counted replies of a cell, alone on its device.
rule measure:
    input:
        checkpoint=grid.checkpoint,
        after="results/{gpu}/{experiment}/{model}/{technique}/warmup.parquet",
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/measure.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/measure.log",
    priority: grid.turn_after_warmup
    group:
        "cell"
    conda:
        grid.env
    threads: grid.threads
    resources:
        **grid.measuring,
    params:
        code=grid.measure_code,
        job=grid.measure_job,
    message:
        "Measuring {wildcards.technique} ({wildcards.model}, {wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/measure.py" --job {params.job:q} --checkpoint {input.checkpoint:q} --after {input.after:q}'
        " --out {output:q} 3>&2 > {log:q} 2>&1"


# A cell once more, in a later round or, for a baseline, between and after the other cells: what such runs differ by is noise.
rule measure_again:
    input:
        checkpoint=grid.checkpoint,
        after="results/{gpu}/{experiment}/{model}/{technique}/measure.parquet",
        beside=grid.beside,
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/measure-{run}.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/measure-{run}.log",
    priority: grid.turn
    conda:
        grid.env
    threads: grid.threads
    resources:
        **grid.measuring,
    params:
        code=grid.measure_code,
        job=grid.measure_again_job,
    message:
        "Measuring {wildcards.technique} again, run {wildcards.run} ({wildcards.model}, {wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/measure.py" --job {params.job:q} --checkpoint {input.checkpoint:q} --after {input.after:q}'
        " --out {output:q} 3>&2 > {log:q} 2>&1"
