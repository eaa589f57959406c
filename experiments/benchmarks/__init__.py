"""What the project claims about its speed, measured as ratios within one process.

`python -m experiments.benchmarks` (or `make bench`) prints each ratio beside what is claimed.
"""
