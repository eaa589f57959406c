"""Verdicts, the answers to RQ1 to RQ5 on figures made up, and the page of evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.studies import EXPERIMENTS
from experiments.studies.base import Claim, beyond, clear_of, counted, everywhere, table
from experiments.studies.evidence import comparison, evidence, finished_studies
from experiments.studies.history_repair.claims import claims as judge_repairs
from experiments.studies.history_repair.jobs import Summary as Repairs
from experiments.studies.history_repair.tables import FOLDS, MODELS, PUBLISHED_ROWS
from experiments.studies.overtraining.claims import claims as judge_heat
from experiments.studies.overtraining.jobs import Summary as Heat
from robustkit.cli.main import main
from robustkit.stats import Estimate
from tests.experiments.studies.completing import completed

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "experiments" / "results"


def test_an_interval_decides_where_it_is_clear() -> None:
    assert clear_of(Estimate(low=1.0, high=2.0), 0.5) is True
    assert clear_of(Estimate(low=1.0, high=2.0), 2.5) is False
    assert clear_of(Estimate(low=1.0, high=2.0), 1.5) is None
    assert clear_of(Estimate(low=1.0, high=2.0), 1.0) is None
    assert clear_of(Estimate(low=None, high=None), 0.0) is None
    assert beyond(Estimate(low=1.0, high=2.0), Estimate(low=0.0, high=0.9)) is True
    assert beyond(Estimate(low=1.0, high=2.0), Estimate(low=2.1, high=3.0)) is False
    assert beyond(Estimate(low=1.0, high=2.0), Estimate(low=2.0, high=3.0)) is None
    assert beyond(Estimate(low=None, high=None), Estimate(low=2.0, high=3.0)) is None
    assert everywhere([True, None, False]) is False
    assert everywhere([True, None]) is None
    assert everywhere([True, True]) is True
    assert everywhere([]) is None


def test_claims_are_counted_and_tabled() -> None:
    claims = [
        Claim(item="e", what=f"w{holds}", published="p", ours="o", holds=holds)
        for holds in (True, True, False, None)
    ]
    assert counted(claims) == {"agrees": 2, "disagrees": 1, "not testable here": 1}
    assert "| wFalse | p | o | disagrees |" in table(claims)


def published_as_ours() -> Any:
    """The publication's own tables in the shape of our summary."""

    def cell(before: float, own: tuple[float, ...], other: tuple[float, ...]) -> dict[str, Any]:
        def share(figures: tuple[float, ...]) -> dict[str, float]:
            keys = ("acc_after", "rr", "br")
            return {key: each / 100 for key, each in zip(keys, figures, strict=True)}

        run = {"repaired": share(own), "held_out": share(other)}
        return {"before": before / 100, "n": 10_000, "held_out_n": 1, "runs": [run]}

    befores = {"gtsrb(5)": 96.120, "gtsrb(10)": 96.572, "cifar(5)": 67.430, "cifar(10)": 74.290}
    models: dict[str, Any] = {}
    for column, (name, before) in enumerate(befores.items()):
        whole = {row: cell(before, of[column], of[column]) for row, of in PUBLISHED_ROWS.items()}
        folds = {
            half: {"history": cell(before, FOLDS[f"{half} -> {half}"][column], other[column])}
            for half, other in (("1", FOLDS["1 -> 2"]), ("2", FOLDS["2 -> 1"]))
        }
        models[name] = {"all": whole, **folds}
    return {"models": models}


def test_the_publications_own_figures_agree_but_where_its_words_overstate_them() -> None:
    found = judge_repairs(completed(Repairs, published_as_ours()))
    wrong = {each.what for each in found if each.holds is not True}
    assert wrong == {
        # Its tables have 0.233 against 8.784 and 0.213 against 7.564 for BR, which are below a
        # tenth, but 0.869 and 1.225 % for RR: "1 to 10 %" holds of three models.
        "cifar(5): RR is at least 1 %",
        # 0.873 % on cifar(10), repaired on the second half.
        "RR on the other half is at least 1 %, in every case",
    }
    assert {each.item for each in found} == {f"history-repair-rq{n}" for n in range(1, 6)}


def test_a_variant_that_wins_elsewhere_disagrees() -> None:
    summary = published_as_ours()
    for name in MODELS:
        summary["models"][name]["all"]["last"]["runs"][0]["repaired"]["acc_after"] = 0.999
    verdicts = {each.what: each.verdict for each in judge_repairs(completed(Repairs, summary))}
    assert verdicts["ACC is highest with both layers, on every model"] == "disagrees"
    del summary["models"]["cifar(5)"]
    verdicts = {each.what: each.verdict for each in judge_repairs(completed(Repairs, summary))}
    assert verdicts["ACC is highest with both layers, on every model"] == "not testable here"


def test_a_tie_is_nobodys_whatever_the_order_of_the_rows() -> None:
    summary = published_as_ours()
    whole = summary["models"]["gtsrb(5)"]["all"]
    for row in ("deg & diff", "last", "backward"):
        whole[row] = whole["history"]
    found = {each.what: each for each in judge_repairs(completed(Repairs, summary))}
    least = found["all data together break least on most models"]
    assert least.ours.startswith("2 of 4: gtsrb(5) history = deg & diff, gtsrb(10) deg & diff")
    assert least.verdict == "not testable here"
    acc = found["ACC is highest with both layers, on every model"]
    assert acc.ours.startswith("3 of 4: gtsrb(5) history = last, ")
    assert acc.verdict == "not testable here"
    # Backward is among the best everywhere now.
    best = found["no choice of impact has the best ACC on every model"]
    assert best.ours.startswith("gtsrb(5) history = backward, gtsrb(10) backward")
    for name in ("cifar(5)", "cifar(10)"):
        rows = summary["models"][name]["all"]
        rows["history"], rows["deg - imp"] = rows["deg - imp"], rows["history"]
    found = {each.what: each for each in judge_repairs(completed(Repairs, summary))}
    assert found["all data together break least on most models"].verdict == "disagrees"


def test_over_training_is_judged_past_the_reference_alone() -> None:
    def seen(error: float, loss: float) -> dict[str, Any]:
        return {"test": {"error": error, "loss": loss}}

    train = {"1": seen(0.5, 1.0), "2": seen(0.4, 1.2)}
    of = {"train": train, "maps": {}, "choice": {"reference": 1}}
    found = judge_heat(completed(Heat, {"arms": {"plain": of, "augmented": of}}))
    assert [each.holds for each in found] == [True, True]
    last = {**of, "choice": {"reference": 2}}
    found = judge_heat(completed(Heat, {"arms": {"plain": of, "augmented": last}}))
    assert [each.holds for each in found] == [None, None]


def test_every_registered_study_is_on_the_page_of_evidence() -> None:
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    for study in EXPERIMENTS.values():
        for item in study.items:
            assert f"| `{item.name}` |" in page
    for path in RESULTS.glob("*/summary.json"):
        if "study" in json.loads(path.read_text(encoding="utf-8")):
            assert f"(../experiments/results/{path.parent.name}/comparison.md)" in page


def test_the_page_is_what_the_summaries_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # its links are relative
    assert main(["reproduce", "--evidence", "experiments/results"]) == 0
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page


@pytest.mark.parametrize(
    "path", sorted(RESULTS.rglob("config.yaml")), ids=lambda path: path.parent.name
)
def test_the_settings_of_every_committed_result_are_taken_by_their_verb(path: Path) -> None:
    verb = yaml.safe_load(path.read_text(encoding="utf-8"))["verb"]
    assert main([verb, "--config", str(path), "--print_config"]) == 0


def test_every_committed_comparison_is_what_its_summary_says() -> None:
    found = list(finished_studies(RESULTS))
    assert found
    for each in found:
        page = (RESULTS / each.name / "comparison.md").read_text(encoding="utf-8")
        assert page == comparison(each.study, each.item, each.summary), each.name


def test_what_differs_is_told_of_the_scale_that_was_run(tmp_path: Path) -> None:
    of = RESULTS / "history-repair"
    summary = json.loads((of / "summary.json").read_text(encoding="utf-8"))
    for scale, few_runs in (("small", True), ("paper", False)):
        folder = tmp_path / scale / "run"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_bytes((of / "config.yaml").read_bytes())
        told = json.dumps({**summary, "scale": scale})
        (folder / "summary.json").write_text(told, encoding="utf-8")
        (result,) = finished_studies(folder.parent)
        for page in (
            evidence(folder.parent),
            comparison(result.study, result.item, result.summary),
        ):
            assert ("Variants have 3 runs in the place of 10" in page) is few_runs
            assert ("Scale *paper*: the same on whatever images" in page) is not few_runs
            assert "N_g, |I_pos| and the ranking are not published" in page


def test_a_folder_without_results_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "--evidence", str(tmp_path)]) == 2
    assert "no folder in it has a summary.json of `robustkit reproduce`" in capsys.readouterr().err


def test_an_entry_run_at_two_scales_is_counted_once(tmp_path: Path) -> None:
    source = RESULTS / "filter-contribution"
    for scale in ("small", "paper"):
        folder = tmp_path / "all" / scale
        folder.mkdir(parents=True)
        summary = json.loads((source / "summary.json").read_text(encoding="utf-8"))
        if scale == "paper":  # the same, but every net reaches what is claimed
            for run in summary["train"]["3"].values():
                run["test_acc"] = 0.99
        (folder / "summary.json").write_text(json.dumps({**summary, "scale": scale}))
        config = yaml.safe_load((source / "config.yaml").read_text(encoding="utf-8"))
        config["config"]["scale"] = scale
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    page = evidence(tmp_path / "all")
    assert "| `filter-count` | section 2.1: the smallest number of filters | 2 |  |  |" in page
    assert "three filters a layer reach 98 % on MNIST" in page
