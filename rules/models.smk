models = grid.stage("prepare_model")


# Train, build, find or download a model.
rule prepare_model:
    output:
        "models/{model}/prepared.parquet",
    log:
        "logs/models/{model}/prepared.log",
    priority: models.priority
    conda:
        "../envs/transformers.yaml"
    threads: models.threads
    resources:
        **models.resources,
    params:
        **models.params,
    message:
        "Preparing the model {wildcards.model}"
    shell:
        'python "$SPEEDGRID_SCRIPTS/prepare_model.py" --job {params.job:q} --code {params.code:q} --out {output:q} 3>&2 > {log:q} 2>&1'
