"""The workloads: what is timed, whatever the engine."""
