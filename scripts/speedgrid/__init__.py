"""speedgrid: which speed-up technique to use for a model on a GPU, what it costs, and how sure that is.

docs/architecture.md has the modules in layers, each importing only those above it. Nothing heavier than the standard library is imported
before it is needed, so that planning stays quick and every environment can load the package.
"""
