devices = grid.stage("probe")


# What a device can do, once for each: the ceilings that its cells are held against.
rule probe:
    output:
        "results/{gpu}/probe.parquet",
    log:
        "logs/{gpu}/probe.log",
    priority: devices.priority
    conda:
        "../envs/transformers.yaml"
    threads: devices.threads
    resources:
        **devices.resources,
    params:
        **devices.params,
    message:
        "Measuring what the device {wildcards.gpu} can do"
    shell:
        'python "$SPEEDGRID_SCRIPTS/probe.py" --job {params.job:q} --code {params.code:q} --out {output:q} 3>&2 > {log:q} 2>&1'
