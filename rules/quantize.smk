# Make the checkpoint of a technique that has a transform.
rule quantize:
    input:
        checkpoint=grid.source,
    output:
        "results/checkpoints/{model}/{technique}/{dtype}/quantize.parquet",
    log:
        "logs/quantize/{model}/{technique}/{dtype}.log",
    priority: grid.quantize_turn
    conda:
        grid.transform_env
    threads: grid.quantize_threads
    resources:
        **grid.quantizing,
    params:
        code=grid.transform_code,
        job=grid.quantize_job,
    message:
        "Making the checkpoint {wildcards.technique} of {wildcards.model}"
    shell:
        'python "$SPEEDGRID_SCRIPTS/quantize.py" --job {params.job:q} --checkpoint {input.checkpoint:q} --out {output:q} 3>&2 > {log:q} 2>&1'
