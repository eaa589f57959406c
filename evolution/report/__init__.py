"""The report of an evolution run: `report.html`, drawn from the finished run folder alone.

Part of `evolution.protocol`, on `robustkit.report`. `evidence` reads the folder, `page` puts
the sections together, and every other file is one of them or a piece that several share. Texts
follow the figures: a claim is made only where its interval allows it.
"""

from evolution.report.page import write_report

__all__ = ["write_report"]
