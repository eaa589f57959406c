"""`robustkit reproduce --list`: every published table and figure, and what reproduces it."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.reproduce.registry import EXPERIMENTS, OURS, SYSTEMS
from experiments.reproduce.study import SCALES, Study


def by_system() -> Iterator[tuple[str, list[Study]]]:
    """The studies of every system, in the order of the sources; this house's own last."""
    for system in (*SYSTEMS, OURS):
        yield system, [each for each in EXPERIMENTS.values() if each.system == system]


def listing() -> str:
    """Lines of text: systems, studies with their scales, exhibits."""
    lines: list[str] = []
    for system, studies in by_system():
        lines.append(system if system != OURS else "questions of this house")
        for study in studies:
            lines += [f"  {study.name}  {study.title}", f"      {study.source}"]
            lines += [f"      --scale {name}: {said}" for name, said in _scales(study)]
            lines += [
                f"    {exhibit.name}  {exhibit.shows}"
                for exhibit in study.exhibits
                if exhibit.name != study.name
            ]
    return "\n".join(lines)


def _scales(study: Study) -> list[tuple[str, str]]:
    return [(name, study.scales[name]) for name in SCALES if name in study.scales]
