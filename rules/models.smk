# Train, build, find or download a model.
rule prepare_model:
    output:
        "models/{model}/prepared.parquet",
    log:
        "logs/models/{model}/prepared.log",
    priority: grid.before_all_turns
    conda:
        "../envs/transformers.yaml"
    threads: planning.all_cores(workflow)
    resources:
        **planning.preparing,
    params:
        code=planning.code("prepare_model"),
        job=grid.model_job,
    message:
        "Preparing the model {wildcards.model}"
    shell:
        'python "$SPEEDGRID_SCRIPTS/prepare_model.py" --job {params.job:q} --out {output:q} 3>&2 > {log:q} 2>&1'
