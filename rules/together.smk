# A workflow of its own, which plans no study: one page of several folders of results. It is what `./speedgrid report DIR ...` runs, which names
# them in an environment variable.
import os
import sys

SCRIPTS = (
    Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parent
    / "scripts"
)
sys.path.insert(0, str(SCRIPTS))

from speedgrid import commands, snakemake_seam

try:
    snakemake_seam.check_version()
except snakemake_seam.UntriedVersion as error:
    commands.refuse(error)

os.environ["SPEEDGRID_SCRIPTS"] = str(SCRIPTS)
snakemake_seam.look_after(workflow)


rule report_together:
    log:
        "logs/report_together.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    message:
        "Writing one page of several results"
    shell:
        'python "$SPEEDGRID_SCRIPTS/make_page.py" 3>&2 > {log:q} 2>&1'
