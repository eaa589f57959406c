"""`robustkit report`: draw the report of a run folder anew."""

from __future__ import annotations

from pathlib import Path

from robustkit.cli.commands import find_commands, load_command
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Options
from robustkit.errors import RunError
from robustkit.reading import read_text
from robustkit.report import drawings
from robustkit.runs import RunFolder, write_text


def add_arguments(parser: CommandParser) -> None:
    """Which run, and where its figures go besides."""
    parser.add_argument("run", metavar="DIR", help="run folder")
    parser.add_argument(
        "--figures", metavar="DIR", help="new folder that gets the report's drawings as SVG files"
    )


def run(options: Options) -> int:
    """Leave the report to the verb that made the run, and say where it is."""
    folder = RunFolder.open(Path(options.run))
    report = (
        getattr(load_command(folder.command), "report", None)
        if folder.command in find_commands()
        else None
    )
    if report is None:
        raise RunError(f"{folder.path}: runs of '{folder.command}' have no report")
    figures = None if options.figures is None else Path(options.figures)
    if figures is not None and figures.exists():
        raise RunError(f"{figures} exists already and is never overwritten; choose another folder")
    path: Path = report(folder)
    log(str(path))
    if figures is not None:
        figures.mkdir(parents=True)
        for name, drawing in drawings(read_text(path, error=RunError, follow=False)).items():
            write_text(figures / f"{name}.svg", drawing)
            log(str(figures / f"{name}.svg"))
    return 0
