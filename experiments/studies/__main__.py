"""`make evidence`: `docs/evidence.md` and every committed `comparison.md`, from the summaries."""

from __future__ import annotations

from pathlib import Path

from experiments.studies.evidence import comparison, evidence, results_in
from robustkit.runs import write_text

RESULTS, PAGE = Path("experiments/results"), Path("docs/evidence.md")


def main() -> None:
    """Write them; to be run in the root of the repository."""
    for result in results_in(RESULTS):
        text = comparison(result.study, result.exhibit, result.summary)
        write_text(RESULTS / result.name / "comparison.md", text)
    write_text(PAGE, evidence(RESULTS))
    print(PAGE)


if __name__ == "__main__":
    main()
