"""The top floor of the house: what a person launches.

`cli` finds the verb and keeps the error contract, `options` and `launch` turn flags and YAML into
settings and a run folder, `verbs` holds one module per verb, `reproduce` one entry per published
result, `benchmarks` the timings. Everything below (`evolution`, `adaptation`, `robustkit`) may be
imported from here; nothing below imports from here.
"""
