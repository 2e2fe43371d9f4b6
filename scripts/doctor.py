"""Says what this machine can run: its hardware, its tools, and each technique of the registry.

    ./speedgrid doctor

Exits with 0 if the default study can run here, else with 1.
"""

import sys

from speedgrid import commands, planning, readiness, survey
from speedgrid.study import StudyError


def main() -> int:
    commands.one("doctor", commands.program()).parse_args()
    facts = survey.find_facts()
    commands.say("This machine\n" + readiness.table(readiness.machine_rows(facts)))
    try:
        registry = planning.read_registry()
        commands.say("\nTechniques\n" + readiness.table(readiness.technique_rows(registry, facts)))
        if facts.slurm:
            commands.say("\nThis cluster\n" + readiness.table(readiness.slurm_rows(facts)))
        study, _, _ = planning.read_study(planning.default_study())
        problems = readiness.study_problems(study, registry, facts)
    except StudyError as error:
        problems = [str(error)]
    if line := planning.passed_over():
        print(line, file=sys.stderr)
    if problems:
        commands.say("\nThe default study cannot run here:\n" + "\n".join(f"  {problem}" for problem in problems))
        return 1
    commands.say(f"\nThe default study can run here: {commands.program()} run")
    return 0


if __name__ == "__main__":
    commands.run(main)
