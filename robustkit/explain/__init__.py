"""Where a net looks: trace a forward pass once, read many maps off the trace.

Maps are stateless functions of a trace, and metrics judge maps by masking and occlusion. Stands on
`data`, `models`, `attacks` and `training`; `repair` is its neighbour, and neither imports the
other.
"""
