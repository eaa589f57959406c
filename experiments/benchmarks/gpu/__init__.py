"""What a GPU makes of the hot loops: suites of `robustkit bench gpu` (or `make bench-gpu`).

`--device cpu` rehearses them in small.
"""
