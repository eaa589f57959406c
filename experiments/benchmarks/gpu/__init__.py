"""What a GPU makes of the hot loops: figures in a JSON of its own, and a table.

`python -m experiments.benchmarks.gpu` (or `make bench-gpu`); `--device cpu` rehearses it in small.
"""
