"""The page of evidence: every published table and figure, our results of it, and the verdicts.

`python -m experiments.studies.evidence` (`make evidence`) writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.studies.base import (
    EXPERIMENTS,
    NOT_GIVEN,
    OURS,
    SCALES,
    SYSTEMS,
    VERDICTS,
    Claim,
    PaperItem,
    Study,
    StudySummary,
    counted,
    table,
)
from experiments.studies.running import claims_of, of_settings, summary_of
from robustkit.errors import RunError
from robustkit.reading import printable
from robustkit.report import markdown_table
from robustkit.runs import read_config, read_object, write_text

RESULTS, PAGE = Path("experiments/results"), Path("docs/evidence.md")


def main() -> None:
    """Write `docs/evidence.md` and every committed `comparison.md` from the summaries.

    For `make evidence`, in the root of the repository.
    """
    for run in finished_studies(RESULTS):
        text = comparison(run.study, run.item, run.summary)
        write_text(RESULTS / run.name / "comparison.md", text)
    write_text(PAGE, evidence(RESULTS))
    print(PAGE)


def comparison(study: Study, item: PaperItem | None, summary: StudySummary) -> str:
    """Return the page of one run in Markdown: its tables, claims and deviations."""
    claims = claims_of(study, item, summary)
    parts = [study.render(summary).rstrip()]
    if claims:
        parts += ["## Claims", table(claims), _tally(study, claims)]
    listed = deviations(study, summary)
    if listed:
        parts += ["## What differs", listed]
    return "\n\n".join(parts) + "\n"


def deviations(study: Study, summary: StudySummary) -> str:
    """Return what sets a run apart from the publication, a Markdown list; empty without any."""
    scale = summary.scale
    by_scale = (
        study.small_deviations
        if scale == "small"
        else (f"Scale *{scale}*: {study.scales[scale]}.",)
    )
    return "\n".join(f"- {line}" for line in (*by_scale, *study.deviations))


def _tally(study: Study, claims: list[Claim]) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in counted(claims).items())
    source = "" if study.system == OURS else f" Published: {study.source}."
    return f"{len(claims)} claims: {counts}.{source}"


def by_system() -> Iterator[tuple[str, list[Study]]]:
    """Yield the studies of every system in the order of the sources, our own questions last."""
    for system in (*SYSTEMS, OURS):
        yield system, [study for study in EXPERIMENTS.values() if study.system == system]


def listing() -> str:
    """Return the text of `--list`: systems, studies with their scales, items of the papers."""
    lines: list[str] = []
    for system, studies in by_system():
        lines.append(system if system != OURS else "our own questions")
        for study in studies:
            lines += [f"  {study.name}  {study.title}", f"      {study.source}"]
            lines += [f"      --scale {name}: {about}" for name, about in _scales(study)]
            lines += [
                f"    {item.name}  {item.shows}" for item in study.items if item.name != study.name
            ]
    return "\n".join(lines)


def _scales(study: Study) -> list[tuple[str, str]]:
    return [(name, study.scales[name]) for name in SCALES if name in study.scales]


HEAD = """# Evidence

Written by `make evidence` from the summaries under `{folder}`; not edited by hand.
`robustkit reproduce --list` names every entry, `robustkit reproduce NAME` runs one, and each result
folder holds the settings, all values (`summary.json`) and the tables (`comparison.md`).

Every claim has a rule in code (`claims` of its study), which gives one of three verdicts:
**agrees**, **disagrees**, **not testable here**. The last also stands where the 95 % interval of
our value leaves open which way it is. Runs are at the scale `small`, on two CPU cores, unless it
is said; they test the shape of a result on other data and smaller nets, not the published value
itself. Where a rule is younger than the run it is applied to, "What differs" says so. Claims with
"not given" in the place of a published value are our own and not in the last row below. Where an
entry was run at two scales, the larger one counts here."""


@dataclass(frozen=True)
class FinishedStudy:
    """A finished run in the folder of results, of a `study` or of one `item` of it."""

    name: str
    study: Study
    item: PaperItem | None
    seed: int
    summary: StudySummary

    @property
    def claims(self) -> list[Claim]:
        """Return the publication's claims, decided by the present rules."""
        return claims_of(self.study, self.item, self.summary)

    def command(self) -> str:
        """Return the command that makes it again."""
        flag = "" if self.summary.scale == "small" else f" --scale {self.summary.scale}"
        name = self.item.name if self.item is not None else self.study.name
        return f"robustkit reproduce {name}{flag} --seed {self.seed}"


def evidence(folder: Path) -> str:
    """Return the page of all results in Markdown, with links relative to `docs/`.

    Raises `RunError` for a folder without results.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder")
    runs = list(finished_studies(folder))
    if not runs:
        problem = f"{folder}: no folder in it has a summary.json of `robustkit reproduce`"
        alone = (folder / "summary.json").exists()
        raise RunError(f"{problem}; name the folder that this one lies in" if alone else problem)
    parts = [HEAD.format(folder=folder), "## Verdicts", _overview(runs)]
    for system, studies in by_system():
        parts.append(f"## {'Our own questions' if system == OURS else system.capitalize()}")
        for study in studies:
            parts += _section(study, [run for run in runs if run.study is study], folder)
    return "\n\n".join(parts) + "\n"


def finished_studies(folder: Path) -> Iterator[FinishedStudy]:
    """Yield the finished runs of `robustkit reproduce` in `folder`, by name; others are left out.

    Raises `RunError`, naming the file, for one that is damaged or does not fit its settings.
    """
    for path in sorted(folder.glob("*/summary.json")):
        value = read_object(path)
        if "study" in value:
            settings = path.with_name("config.yaml")
            saved = read_config(settings)
            if saved["verb"] != "reproduce":
                raise RunError(f"{settings}: of a run of '{saved['verb']}', not of 'reproduce'")
            config = saved["config"]
            study, item = of_settings(config, settings)
            summary = summary_of(study, value, path)
            name = printable(path.parent.name)
            yield FinishedStudy(name, study, item, config["seed"], summary)


def _overview(runs: Sequence[FinishedStudy]) -> str:
    rows: list[list[str]] = []
    published: list[Claim] = []
    for system, studies in by_system():
        for study in studies:
            for item in study.items:
                claims = _claims(item, [run for run in runs if run.study is study])
                cells = [str(count or "") for count in counted(claims).values()]
                if not claims:
                    cells = [_without_claims(study, item, runs), "", ""]
                rows.append([system, f"`{item.name}`", item.shows, *cells])
                if system != OURS:
                    published += [claim for claim in claims if claim.published != NOT_GIVEN]
    totals = " | ".join(f"**{count}**" for count in counted(published).values())
    lines = markdown_table(["system", "entry", "published in", *VERDICTS.values()], rows)
    return f"{lines}\n| **all published** | | | {totals} |"


def _claims(item: PaperItem, runs: Sequence[FinishedStudy]) -> list[Claim]:
    """Return the claims of an item by the runs of the largest scale that has any: each once."""
    by_scale: dict[str, list[Claim]] = {scale: [] for scale in SCALES}
    for run in runs:
        by_scale[run.summary.scale] += [claim for claim in run.claims if claim.item == item.name]
    return next((claims for claims in reversed(by_scale.values()) if claims), [])


def _without_claims(study: Study, item: PaperItem, runs: Sequence[FinishedStudy]) -> str:
    """Return why an item has no verdict: it was not run, or nothing is claimed."""
    was_run = any(run.study is study and run.item in (None, item) for run in runs)
    return "tables alone" if was_run and not item.claimed else "not run"


def _section(study: Study, runs: Sequence[FinishedStudy], folder: Path) -> list[str]:
    scales = [[f"`{name}`", about] for name, about in _scales(study)]
    parts = [
        f"### {study.title}",
        f"{study.source[0].upper()}{study.source[1:].rstrip('?.')}.",
        markdown_table(["scale", ""], scales).replace("| scale |  |", "| scale | |"),
    ]
    if not runs:
        return [*parts, "Not run."]
    where = folder.as_posix() if folder.is_absolute() else f"../{folder.as_posix()}"
    for run in runs:
        link = f"[`{run.name}`]({where}/{run.name}/comparison.md)"
        parts.append(f"**{link}**: `{run.command()}`")
        if run.claims:
            parts.append(table(run.claims))
        listed = deviations(study, run.summary)
        if listed:
            parts += ["What differs:", listed]
    return parts


if __name__ == "__main__":
    main()
