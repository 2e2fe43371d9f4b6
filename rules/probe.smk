# What a device can do, once for each: the ceilings that its cells are held against.
rule probe:
    output:
        "results/{gpu}/probe.parquet",
    log:
        "logs/{gpu}/probe.log",
    priority: grid.before_all_turns
    conda:
        "../envs/transformers.yaml"
    threads: grid.probe_threads
    resources:
        **grid.probing,
    params:
        code=planning.code("probe"),
        job=grid.probe_job,
    message:
        "Measuring what the device {wildcards.gpu} can do"
    shell:
        'python "$SPEEDGRID_SCRIPTS/probe.py" --job {params.job:q} --out {output:q} 3>&2 > {log:q} 2>&1'
