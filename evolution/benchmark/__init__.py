"""A tabular benchmark of adversarial transferability: trained networks of the search space.

`measure` trains one network and measures it; `collect` chooses the networks and keeps a table.
"""
