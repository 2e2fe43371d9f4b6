# Quality of the very checkpoint and engine that were timed.
rule evaluate:
    input:
        script="scripts/evaluate.py",
        code=grid.engine_code,
        checkpoint=grid.checkpoint,
        after=ancient("results/{gpu}/{experiment}/{model}/{technique}/measure.parquet"),
        text=grid.evaluation_text,
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/evaluate.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/evaluate.log",
    conda:
        grid.env
    threads: planning.all_cores(workflow)
    resources:
        gpu=1,
    params:
        job=grid.evaluate_job,
    message:
        "Evaluating {wildcards.technique} ({wildcards.model}, {wildcards.gpu})"
    shell:
        "python {input.script:q} --job {params.job:q} --checkpoint {input.checkpoint:q} --after {input.after:q}"
        " --out {output:q} 3>&2 > {log:q} 2>&1"
