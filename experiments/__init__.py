"""Studies, benchmarks and ready configurations.

`studies` reproduces published results (`robustkit reproduce`), one folder each; `benchmarks`
measures what is claimed about speed (`robustkit bench`, in a checkout); `configs` has settings of
the three main jobs, `results` what was run. Nothing below imports from here.
"""
