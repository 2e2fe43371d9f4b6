# Short jobs without a device are local rules: on a cluster they run where Snakemake does, and wait in no queue.


# The plan as a file, for the jobs of the report; that of a large grid would be too long for a command line. It is written first, by the study
# as it is when the run begins.
rule plan:
    input:
        planning.PLANNED,
    output:
        "results/plan.json",
    log:
        "logs/plan.log",
    priority: grid.order.first
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        code=planning.code("write_plan"),
        study=grid.study_path,
    message:
        "Writing down the plan of the grid"
    shell:
        'python "$SPEEDGRID_SCRIPTS/write_plan.py" --study {params.study:q} --out {output:q} 3>&2 > {log:q} 2>&1'


# One row for every cell of the grid, and one for every job.
rule aggregate:
    input:
        plan="results/plan.json",
        records=grid.records(),
        probes=grid.probes(),
    output:
        summary="results/summary.parquet",
        points="results/points.parquet",
        runs="results/runs.parquet",
    log:
        "logs/aggregate.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        code=planning.code("aggregate"),
        by_hand=planning.made_by_hand(),
    message:
        "Gathering the results of every cell"
    shell:
        'python "$SPEEDGRID_SCRIPTS/aggregate.py" --plan {input.plan:q} --summary {output.summary:q} --points {output.points:q}'
        " --runs {output.runs:q} 3>&2 > {log:q} 2>&1"


# The page that people read, offline, one file; beside it a summary in Markdown and the charts as SVG. `snakemake --report` has all.
rule report:
    input:
        plan="results/plan.json",
        summary="results/summary.parquet",
        points="results/points.parquet",
        runs="results/runs.parquet",
        measures=grid.measures(),
        scores=grid.scores(),
    output:
        page=report(
            "results/report.html",
            caption="../report/captions/page.rst",
            category="Page",
        ),
        markdown="results/summary.md",
        figures=report(
            directory("results/figures"),
            patterns=["{figure}.svg"],
            caption="../report/captions/figure.rst",
            category="Figures",
        ),
    log:
        "logs/report.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        code=planning.code("render_report"),
        compared=grid.compared_state,
    message:
        "Writing the report"
    shell:
        'python "$SPEEDGRID_SCRIPTS/render_report.py" --plan {input.plan:q} --summary {input.summary:q} --points {input.points:q}'
        " --runs {input.runs:q} --out {output.page:q} 3>&2 > {log:q} 2>&1"


# The page of what is there by now, whatever is missing: what `./speedgrid report` asks for, also while a run goes on.
rule report_so_far:
    log:
        "logs/report_so_far.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        study=grid.study_file,
    message:
        "Writing the report of what is there"
    shell:
        'python "$SPEEDGRID_SCRIPTS/make_page.py" --study {params.study:q} 3>&2 > {log:q} 2>&1'
