"""A tabular benchmark of adversarial transferability: trained networks of the search space.

`measure` trains one network and measures it, `collect` chooses the networks and keeps a `table`,
and a `surrogate` fitted to the table stands in for the training of any network of the space;
`quality` says how well.
"""

from evolution.benchmark.surrogate import Surrogate, open_surrogate
from evolution.benchmark.table import Table, load_table

__all__ = ["Surrogate", "Table", "load_table", "open_surrogate"]
