"""What a run leaves behind: files written whole or not at all, its folder, ledger and report.

On the ground floor beside `robustkit.compute`: it knows no other room but `robustkit.errors`,
and importing it does not import torch.
"""

from robustkit.runs.atomic import atomic_path, is_disk_full, write_json, write_text

__all__ = ["atomic_path", "is_disk_full", "write_json", "write_text"]
