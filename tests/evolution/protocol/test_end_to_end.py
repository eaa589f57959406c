"""Whole runs through the command: what they write, and that nothing but the config matters."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from robustkit import models
from robustkit.runs import Entry, RunFolder
from tests.evolution.protocol.runs import (
    INLINE,
    ONE_WORKER,
    RAY,
    TINY,
    TWO_WORKERS,
    content,
    evolve,
    rows,
    summary,
    trials,
)

RATES = {"rate", "n", "low", "high"}
TRANSFERS = {
    "transfer_from_R",
    "transfer_from_R_flipped",
    "transfer_from_surrogate",
    "transfer_to_R",
}
OF_A_NET = {
    "clean_acc",
    "whitebox_acc",
    "cos_mean",
    "cos_abs_mean",
    "grad_norm_mean",
    "params",
    "macs",
    "seeds",
}
FINALISTS = ("E", "E0", "R2", "RS", "Rp", "P", "P0", "M")


def forget(folder: Path, *arms: str) -> None:
    """Make a finished run one that was stopped before the trials of `arms`."""
    (folder / "summary.json").unlink()
    (folder / "report.html").unlink()
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        for arm in arms:
            connection.execute("DELETE FROM trials WHERE arm = ?", (arm,))
    connection.close()


def test_the_summary_has_every_documented_key(finished: Path) -> None:
    found = RunFolder.open(finished).summary()
    assert found is not None
    documented = {"trials", "trials_from_cache", "outcomes", "nets", "gap", "seconds"}
    assert documented | {"format", "verb"} <= set(found)
    assert found["trials"] == 8
    assert sum(found["outcomes"].values()) == 8
    assert set(found["nets"]) == {"R", *FINALISTS}
    for role, net in found["nets"].items():
        assert set(net) >= OF_A_NET
        assert set(net) & TRANSFERS == (set() if role == "R" else TRANSFERS)
        for transfer in set(net) & TRANSFERS:
            assert set(net[transfer]) == {"headline", "fooling", "all"}
            for rate in net[transfer].values():
                assert set(rate) == RATES
        for name in ("clean_acc", "whitebox_acc"):
            assert 0 <= net[name] <= 1
    assert set(found["gap"]) >= {"points", "low", "high", "p_value"}
    assert all(isinstance(seconds, float) for seconds in found["seconds"].values())
    assert found["nets"]["E"]["params"] == found["nets"]["E0"]["params"]
    assert found["nets"]["R"]["params"] == found["nets"]["R2"]["params"]


def test_the_ledger_has_every_trial(finished: Path) -> None:
    searched = [f"{arm}/{n:04d}" for arm in ("evolve", "random") for n in range(4)]
    names = {trial.id for trial in trials(finished)}
    assert {each for each in names if each.split("/")[0] in ("evolve", "random")} == set(searched)
    assert {each for each in names if each.startswith("promote")} != set()
    assert {each for each in names if each.startswith("final")} == {
        f"final/{role}-0" for role in FINALISTS
    }
    assert {each for each in names if each.startswith("judge")} == {
        "judge/R",
        *(f"judge/{role}-0" for role in FINALISTS),
    }
    assert names >= {"reference/R", "reference/S", "prepare", "baseline/R2", "lambda/3-0"}
    found = summary(finished)
    cached = [trial for trial in trials(finished) if trial.id in searched and trial.seconds == 0]
    assert len(cached) == found["trials_from_cache"]


def test_a_run_leaves_its_nets_and_report_and_no_scratch(finished: Path) -> None:
    files = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "env.json", "ledger.sqlite", "summary.json", "report.html"} <= files
    assert "scratch" not in files
    nets = {path.stem for path in (finished / "nets").glob("*.safetensors")}
    assert nets == {"R", "S", *(f"{role}-0" for role in FINALISTS)}
    for name in nets:
        models.load(finished / "nets" / f"{name}.safetensors", num_classes=10)


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param(ONE_WORKER, id="1", marks=pytest.mark.slow),
        pytest.param(TWO_WORKERS, id="2"),
        pytest.param(RAY, id="ray"),
    ],
)
def test_workers_change_nothing(finished: Path, tmp_path: Path, executor: Sequence[str]) -> None:
    folder = tmp_path / "run"
    assert evolve(*TINY, *executor, "--out", str(folder)) == 0
    assert rows(folder) == rows(finished)
    assert summary(folder) == summary(finished)
    for net in (finished / "nets").iterdir():
        again = models.load(folder / "nets" / net.name)
        assert models.digest(again) == models.digest(models.load(net))


def test_resuming_a_finished_run_changes_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(finished)
    assert evolve("--resume", str(finished)) == 0
    assert content(finished) == before
    assert "report.html" in capsys.readouterr().out


def test_resuming_with_the_same_setting_given_is_no_change(finished: Path) -> None:
    assert evolve("--resume", str(finished), "--population", "2") == 0


def test_where_jobs_run_may_be_given_anew(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    forget(folder, "judge")
    before = (folder / "config.yaml").read_bytes()
    assert evolve("--resume", str(folder), *ONE_WORKER) == 0
    assert rows(folder) == rows(finished)
    assert (folder / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("option", ["--lam", "--seed", "--generations", "--timeout"])
def test_resuming_with_a_changed_setting_is_refused_by_name(
    finished: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    before = content(finished)
    assert evolve("--resume", str(finished), option, "7") == 2
    assert f"option '{option[2:]}' is 7" in capsys.readouterr().err
    assert content(finished) == before


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param((), id="the summary"),
        pytest.param(("judge",), id="the verdicts"),
        pytest.param(("judge", "final", "promote-evolve", "random"), id="the random search"),
    ],
)
def test_what_a_stopped_run_lacks_is_made_again(
    finished: Path, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    forget(folder, *lost)
    assert evolve("--resume", str(folder)) == 0
    assert rows(folder) == rows(finished)
    assert summary(folder) == summary(finished)
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    "executor",
    [pytest.param(INLINE, id="inline"), pytest.param(TWO_WORKERS, id="2", marks=pytest.mark.slow)],
)
def test_a_penalty_where_attacks_live_runs_and_resumes(
    finished: Path, tmp_path: Path, executor: Sequence[str]
) -> None:
    folder = tmp_path / "run"
    penalty = ["--penalty-views", "mixed", "--penalty-every", "2", "--lam-ramp", "1"]
    augment = ["--augment", "flip", "--views", "2"] if executor == TWO_WORKERS else []
    assert evolve(*TINY, *penalty, *augment, *executor, "--out", str(folder)) == 0
    before_rows, before_summary = rows(folder), summary(folder)
    plain = {trial.id: trial for trial in trials(finished)}
    here = {trial.id: trial for trial in trials(folder)}
    gradients = [value(each["prepare"], "gradients") for each in (here, plain)]
    assert gradients[0] == (6 if augment else 3) * gradients[1]
    if not augment:  # nets without the penalty are those of a run without noise
        for same in ("reference/R", "baseline/R2", "final/R2-0"):
            assert here[same].result == plain[same].result
    first = "evolve/0000"
    assert here[first].key == plain[first].key
    assert here[first].payload["identity"] != plain[first].payload["identity"]
    assert value(here[first], "curves") != value(plain[first], "curves")
    forget(folder, "judge", "final")
    assert evolve("--resume", str(folder)) == 0
    assert (rows(folder), summary(folder)) == (before_rows, before_summary)


def value(trial: Entry, name: str) -> Any:
    assert trial.result is not None
    return trial.result[name]


def test_a_run_from_before_there_was_noise_goes_on(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    forget(folder, "judge")
    config = folder / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    younger = ("penalty_views:", "penalty_every:", "lam_ramp:")
    older = [line for line in lines if not line.strip().startswith(younger)]
    assert len(older) == len(lines) - 3
    config.write_text("".join(older))
    assert evolve("--resume", str(folder)) == 0
    assert rows(folder) == rows(finished)


def test_a_trained_reference_is_copied_and_the_copy_resumed_from(
    finished: Path, tmp_path: Path
) -> None:
    file, folder = tmp_path / "mine.safetensors", tmp_path / "run"
    shutil.copy(finished / "nets" / "R.safetensors", file)
    arguments = [*TINY, "--generations", "1", "--promote", "0", "--reference", str(file)]
    assert evolve(*arguments, *INLINE, "--out", str(folder)) == 0
    before_rows, before_summary = rows(folder), summary(folder)
    assert "reference/R" not in {trial.id for trial in trials(folder)}
    kept = models.load(folder / "nets" / "R.safetensors")
    assert models.digest(kept) == models.digest(models.load(file))
    assert_same_net(before_summary["nets"]["R"], summary(finished)["nets"]["R"])
    file.unlink()
    forget(folder, "judge")
    assert evolve("--resume", str(folder)) == 0
    assert (rows(folder), summary(folder)) == (before_rows, before_summary)


def assert_same_net(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert {name: one[name] for name in OF_A_NET} == {name: other[name] for name in OF_A_NET}


def test_a_reference_of_other_classes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "three.safetensors", tmp_path / "run"
    net = models.build("small", num_classes=3, in_channels=1, image_size=16, seed=0)
    models.save(net, file)
    assert evolve(*TINY, *INLINE, "--reference", str(file), "--out", str(folder)) == 2
    error = capsys.readouterr().err
    assert error.startswith("robustkit: error: ")
    assert error.count("\n") == 1
    assert "3 classes" in error
    assert not folder.exists()


def test_data_that_changed_under_a_stopped_run_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(finished, stopped)
    forget(stopped, "judge")
    noted = stopped / "data.json"
    noted.write_text(noted.read_text().replace('"test": "', '"test": "0'))
    before = content(stopped)
    assert evolve("--resume", str(stopped)) == 2
    assert "digits: the test images have changed" in capsys.readouterr().err
    assert content(stopped) == before


def test_a_steady_search_runs_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert evolve(*TINY, *INLINE, "--mode", "steady", "--out", str(folder)) == 0
    before = rows(folder), summary(folder)
    assert RunFolder.open(folder).config["in_flight"] == 1
    (folder / "summary.json").unlink()
    (folder / "report.html").unlink()
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM trials WHERE number > 9")
    connection.close()
    assert evolve("--resume", str(folder), *TWO_WORKERS) == 0
    assert (rows(folder), summary(folder)) == before  # one at a time, whatever the workers


def test_the_same_trials_are_taken_over_from_another_run(finished: Path, tmp_path: Path) -> None:
    before = content(finished)
    folder, reuse = tmp_path / "again", ["--reuse", str(finished)]
    assert evolve(*TINY, *INLINE, *reuse, "--out", str(folder)) == 0
    assert content(finished) == before
    searched = [each for each in trials(folder) if "identity" in each.payload]
    assert searched
    assert all(each.payload.get("reused") for each in searched if each.outcome == "Ok")
    plain = [{**row[3], "reused": None} for row in rows(folder)]
    assert plain == [{**row[3], "reused": None} for row in rows(finished)]
    assert [row[4:] for row in rows(folder)] == [row[4:] for row in rows(finished)]
    # Whatever a trial depends on, if it differs nothing is taken over.
    for number, change in enumerate((["--lam", "0.5"], ["--seed", "1"])):
        other = tmp_path / f"other-{number}"
        assert evolve(*TINY, *INLINE, *reuse, *change, "--out", str(other)) == 0
        assert not any(each.payload.get("reused") for each in trials(other))


def test_what_is_no_evolution_has_nothing_to_reuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert evolve(*TINY, *INLINE, "--reuse", str(tmp_path / "x"), "--out", str(out)) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert not out.exists()
