"""The page of evidence: every published table and figure, our results of it, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.studies import base as claims
from experiments.studies.base import (
    EXPERIMENTS,
    NOT_GIVEN,
    OURS,
    SCALES,
    SYSTEMS,
    VERDICTS,
    Claim,
    Exhibit,
    Study,
    counted,
    table,
)
from experiments.studies.running import judged, of_settings, summary_of
from robustkit.errors import RunError
from robustkit.reading import printable
from robustkit.runs import read_config, read_object


def comparison(study: Study, exhibit: Exhibit | None, summary: Mapping[str, Any]) -> str:
    """The whole page in Markdown."""
    found = judged(study, exhibit, summary)
    parts = [study.render(summary).rstrip()]
    if found:
        parts += ["## Claims", claims.table(found), _tally(study, found)]
    listed = differences(study, summary)
    if listed:
        parts += ["## What differs", listed]
    return "\n\n".join(parts) + "\n"


def differences(study: Study, summary: Mapping[str, Any]) -> str:
    """What sets a run apart from the publication, a list in Markdown; empty where nothing does."""
    scale = summary.get("scale", "small")
    listed = study.only_small if scale == "small" else (f"Scale *{scale}*: {study.scales[scale]}.",)
    return "\n".join(f"- {each}" for each in (*listed, *study.deviations))


def _tally(study: Study, found: list[Any]) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in claims.counted(found).items())
    whose = "" if study.system == OURS else f" Published: {study.source}."
    return f"{len(found)} claims: {counts}.{whose}"


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


HEAD = """# Evidence

Written by `make evidence` from the summaries under `{folder}`; not edited by hand.
`robustkit reproduce --list` names every entry, `robustkit reproduce NAME` runs one, and each result
folder holds the settings, all figures (`summary.json`) and the tables (`comparison.md`).

Every claim has a rule in code (`judge` of its study), which gives one of three verdicts:
**agrees**, **disagrees**, **not testable here**. The last also stands where the 95 % interval of
our figure leaves open which way it is. Runs are at the scale `small`, on two CPU cores, unless it
is said; they test the shape of a result on other data and smaller nets, not the published figure
itself. Where a rule is younger than the run it judges, "What differs" says so. Claims with "not
given" in the place of a published figure are this house's own and not in the last row below. Where
an entry was run at two scales, the larger one counts here."""


@dataclass(frozen=True)
class Result:
    """A finished run in the folder of results: of which study, or of which exhibit of it."""

    name: str
    study: Study
    exhibit: Exhibit | None
    seed: int
    summary: Any

    @property
    def claims(self) -> list[Claim]:
        """What its summary says of the publication's claims, by the present rules."""
        return judged(self.study, self.exhibit, self.summary)

    def command(self) -> str:
        """What makes it again."""
        scale = self.summary.get("scale", "small")
        flag = "" if scale == "small" else f" --scale {scale}"
        name = self.exhibit.name if self.exhibit is not None else self.study.name
        return f"robustkit reproduce {name}{flag} --seed {self.seed}"


def evidence(folder: Path) -> str:
    """The whole page in Markdown, with links that hold from `docs/`; `RunError` without results."""
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder")
    results = list(results_in(folder))
    if not results:
        said = f"{folder}: no folder in it has a summary.json of `robustkit reproduce`"
        alone = (folder / "summary.json").exists()
        raise RunError(f"{said}; name the folder that this one lies in" if alone else said)
    parts = [HEAD.format(folder=folder), "## Verdicts", _overview(results)]
    for system, studies in by_system():
        parts.append(f"## {'Questions of this house' if system == OURS else system.capitalize()}")
        for study in studies:
            own = [each for each in results if each.study is study]
            parts += _study(study, own, folder)
    return "\n\n".join(parts) + "\n"


def results_in(folder: Path) -> Iterator[Result]:
    """The finished runs of `robustkit reproduce` in it, by name; other runs are left out.

    Raises `RunError`, naming the file, for one that is damaged or does not fit its settings.
    """
    for path in sorted(folder.glob("*/summary.json")):
        found = read_object(path)
        if "study" in found:
            beside = path.with_name("config.yaml")
            saved = read_config(beside)
            if saved["verb"] != "reproduce":
                raise RunError(f"{beside}: of a run of '{saved['verb']}', not of 'reproduce'")
            config = saved["config"]
            study, exhibit = of_settings(config, beside)
            summary = summary_of(study, found, path)
            yield Result(printable(path.parent.name), study, exhibit, config["seed"], summary)


def _overview(results: Sequence[Result]) -> str:
    head = ["system", "entry", "published in", *VERDICTS.values()]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    published: list[Claim] = []
    for system, studies in by_system():
        for study in studies:
            for exhibit in study.exhibits:
                claims = _counted(exhibit, [each for each in results if each.study is study])
                cells = [str(count or "") for count in counted(claims).values()]
                if not claims:
                    cells = [_without(study, exhibit, results), "", ""]
                lines.append(
                    f"| {system} | `{exhibit.name}` | {exhibit.shows} | {' | '.join(cells)} |"
                )
                if system != OURS:
                    published += [claim for claim in claims if claim.published != NOT_GIVEN]
    every = counted(published)
    totals = " | ".join(f"**{count}**" for count in every.values())
    return "\n".join([*lines, f"| **all published** | | | {totals} |"])


def _counted(exhibit: Exhibit, results: Sequence[Result]) -> list[Claim]:
    """The claims of an exhibit by the results of the largest scale that has any: each once."""
    by_scale: dict[str, list[Claim]] = {scale: [] for scale in SCALES}
    for result in results:
        own = [claim for claim in result.claims if claim.exhibit == exhibit.name]
        by_scale[result.summary.get("scale", "small")] += own
    return next((claims for claims in reversed(by_scale.values()) if claims), [])


def _without(study: Study, exhibit: Exhibit, results: Sequence[Result]) -> str:
    """Why an exhibit has no verdict: nothing was run, or nothing is claimed."""
    run = [each for each in results if each.study is study and each.exhibit in (None, exhibit)]
    return "tables alone" if run and not exhibit.claimed else "not run"


def _study(study: Study, results: Sequence[Result], folder: Path) -> list[str]:
    parts = [
        f"### {study.title}",
        f"{study.source[0].upper()}{study.source[1:].rstrip('?.')}.",
    ]
    rows = [f"| `{name}` | {study.scales[name]} |" for name in SCALES if name in study.scales]
    parts.append("\n".join(["| scale | |", "|---|---|", *rows]))
    if not results:
        return [*parts, "Not run."]
    where = folder.as_posix() if folder.is_absolute() else f"../{folder.as_posix()}"
    for each in results:
        link = f"[`{each.name}`]({where}/{each.name}/comparison.md)"
        parts.append(f"**{link}**: `{each.command()}`")
        if each.claims:
            parts.append(table(each.claims))
        differs = differences(study, each.summary)
        if differs:
            parts += ["What differs:", differs]
    return parts
