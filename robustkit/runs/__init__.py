"""The files of a run: written whole or not at all, its folder, ledger and typed summary.

Below `robustkit.compute`: it uses the files beside it only, and importing it does not import torch.
"""

from robustkit.runs.atomic import atomic_path, is_disk_full, write_json, write_text
from robustkit.runs.folder import RunFolder, check_same_config, read_config, read_object
from robustkit.runs.ledger import Entry, Ledger
from robustkit.runs.listing import RunInfo, as_row, differing, export, find_runs

__all__ = [
    "Entry",
    "Ledger",
    "RunFolder",
    "RunInfo",
    "as_row",
    "atomic_path",
    "check_same_config",
    "differing",
    "export",
    "find_runs",
    "is_disk_full",
    "read_config",
    "read_object",
    "write_json",
    "write_text",
]
