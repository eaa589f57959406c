from pathlib import Path

import pytest

from robustkit.errors import RunError
from robustkit.runs.folder import RunFolder
from robustkit.runs.listing import find_runs


def test_runs_are_found_with_their_headlines(tmp_path: Path) -> None:
    for name in ("b", "deep/a", ".hidden/c"):
        RunFolder.create(tmp_path / name, command="train", config={}, argv=[])
    run = RunFolder.open(tmp_path / "b")
    run.write_summary({"clean_acc": 0.5, "data": "digits", "nested": {"x": 1}})
    RunFolder.create(tmp_path / "b" / "inside", command="train", config={}, argv=[])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("someone: else's")

    found = {info.path.relative_to(tmp_path).as_posix(): info for info in find_runs(tmp_path)}
    assert set(found) == {"b", "deep/a"}
    assert found["b"].finished
    assert found["b"].headline == {"clean_acc": 0.5, "data": "digits"}
    assert found["b"].created == run.env["time"]
    assert not found["deep/a"].finished
    assert [info.path for info in find_runs(tmp_path / "b")] == [tmp_path / "b"]


def test_a_damaged_run_is_listed_with_its_problem(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a", command="train", config={}, argv=[])
    run.file("summary.json").write_text("{")
    (info,) = find_runs(tmp_path)
    assert "summary.json: not JSON" in info.problem
    assert not info.finished


def test_the_oldest_comes_first(tmp_path: Path) -> None:
    for name, year in (("a", 2002), ("b", 2001), ("c", 2003)):
        run = RunFolder.create(tmp_path / name, command="train", config={}, argv=[])
        run.write_json("env.json", run.env | {"time": f"{year}-01-01T00:00:00+00:00"})
    assert [info.path.name for info in find_runs(tmp_path)] == ["b", "a", "c"]


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere is not a folder"):
        find_runs(tmp_path / "nowhere")
