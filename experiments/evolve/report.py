from pathlib import Path
from robustkit.runs import RunFolder


def write_report(folder: RunFolder) -> Path:
    return folder.file("report.html")
