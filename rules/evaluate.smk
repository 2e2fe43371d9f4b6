asked = grid.stage("requests")
reference = grid.stage("reference")
evaluated = grid.stage("evaluate")
scored = grid.stage("score")


# Quality of the very checkpoint and engine that were timed: lm-eval asks, the technique's engine answers, lm-eval scores. Requests and
# scores are local rules: the data of tasks are downloaded where Snakemake runs.
rule requests:
    output:
        "results/requests/{experiment}/requests.parquet",
    log:
        "logs/requests/{experiment}.log",
    localrule: True
    conda:
        "../envs/evaluation.yaml"
    params:
        **asked.params,
    message:
        "Building the requests of the tasks of {wildcards.experiment}"
    shell:
        'python "$SPEEDGRID_SCRIPTS/build_requests.py" --job {params.job:q} --code {params.code:q} --out {output:q} 3>&2 > {log:q} 2>&1'


# What the unmodified model expects next, which every technique is held against.
rule reference:
    input:
        **reference.inputs,
    output:
        "results/{gpu}/{experiment}/{model}/reference.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/reference.log",
    priority: reference.priority
    conda:
        reference.env
    threads: reference.threads
    resources:
        **reference.resources,
    params:
        **reference.params,
    message:
        "Next tokens of the unmodified {wildcards.model} ({wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/reference.py" --job {params.job:q} --code {params.code:q}'
        " --checkpoint {input.checkpoint:q} --out {output:q} 3>&2 > {log:q} 2>&1"


rule evaluate:
    input:
        **evaluated.inputs,
        # Not after the measurement, which counts more replies without any change of quality. And not `ancient`: where the job before runs
        # again, Snakemake does not look for a change of this one's own (its issue 4166), and would keep what belongs to other settings.
        after="results/{gpu}/{experiment}/{model}/{technique}/warmup.parquet",
    output:
        "results/{gpu}/{experiment}/{model}/{technique}/evaluate.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/{technique}/evaluate.log",
    priority: evaluated.priority
    conda:
        evaluated.env
    threads: evaluated.threads
    resources:
        **evaluated.resources,
    params:
        **evaluated.params,
    message:
        "Evaluating {wildcards.technique} ({wildcards.model}, {wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/evaluate_quality.py" --job {params.job:q} --code {params.code:q}'
        " --checkpoint {input.checkpoint:q} --after {input.after:q} --out {output:q} 3>&2 > {log:q} 2>&1"


# Every technique against the baseline, on the same items.
rule score:
    input:
        **scored.inputs,
    output:
        "results/{gpu}/{experiment}/{model}/score.parquet",
    log:
        "logs/{gpu}/{experiment}/{model}/score.log",
    localrule: True
    conda:
        scored.env
    params:
        **scored.params,
    message:
        "Scoring the techniques of {wildcards.experiment} ({wildcards.model}, {wildcards.gpu})"
    shell:
        'python "$SPEEDGRID_SCRIPTS/score.py" --job {params.job:q} --code {params.code:q} --out {output:q} 3>&2 > {log:q} 2>&1'
