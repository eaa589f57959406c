"""The report of an evolution run: `report.html`, drawn from the finished run folder alone.

`run_data` reads the folder, `page` puts the sections together, and every other module is one of
them or shared by several. A sentence claims a difference only where its interval allows it.
"""

from evolution.report.page import write_report

__all__ = ["write_report"]
