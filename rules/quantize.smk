quantized = grid.stage("quantize")


# Make the checkpoint of a technique that has a transform.
rule quantize:
    input:
        **quantized.inputs,
    output:
        "results/checkpoints/{model}/{technique}/{dtype}/quantize.parquet",
    log:
        "logs/quantize/{model}/{technique}/{dtype}.log",
    priority: quantized.priority
    conda:
        quantized.env
    threads: quantized.threads
    resources:
        **quantized.resources,
    params:
        **quantized.params,
    message:
        "Making the checkpoint {wildcards.technique} of {wildcards.model}"
    shell:
        'python "$SPEEDGRID_SCRIPTS/quantize.py" --job {params.job:q} --code {params.code:q}'
        " --checkpoint {input.checkpoint:q} --out {output:q} 3>&2 > {log:q} 2>&1"
