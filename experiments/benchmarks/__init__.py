"""What the project claims about its speed, measured in one process beside whoever does the same.

`robustkit bench` (or `make bench`) measures the suites of `suites.py`. A suite is a module with
`records()`, which yields a `Record` for each comparison: two values, their ratio, what is claimed
of it. `peers.versus` times other libraries beside ours and first compares what both came to.
"""
