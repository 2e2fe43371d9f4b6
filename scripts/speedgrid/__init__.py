"""speedgrid: which speed-up technique to use for a model on a GPU, what it costs, and how sure that is.

Layers, each importing only those above it: grid, schema, outcomes, records, hardware, meters, stats, engines and transforms,
workloads, stage, report. Nothing heavier than the standard library is imported before it is needed, so that planning stays quick and
every environment can load the package.
"""
