import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from robustkit.errors import RunError
from robustkit.runs.folder import RunFolder, check_same_config

CONFIG: dict[str, Any] = {"lr": 1e-05, "shape": [1, 2], "search": {"population": 8}, "out": None}


def make(path: Path, **changes: Any) -> RunFolder:
    arguments: dict[str, Any] = {"command": "train", "config": CONFIG, "argv": ["robustkit", "x"]}
    return RunFolder.create(path, **(arguments | changes))


def test_a_created_run_is_read_back(tmp_path: Path) -> None:
    created = make(tmp_path / "deep" / "run")
    assert RunFolder.open(tmp_path / "deep" / "run", command="train") == created
    assert created.config == CONFIG


def test_tuples_are_read_back_as_lists_from_the_start(tmp_path: Path) -> None:
    run = make(tmp_path / "run", config={"shape": (1, 2)})
    assert run.config == {"shape": [1, 2]} == RunFolder.open(tmp_path / "run").config


def test_the_environment_is_noted(tmp_path: Path) -> None:
    make(tmp_path / "run")
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert env["command"] == ["robustkit", "x"]
    assert env["versions"]["python"].startswith("3.")
    assert env["versions"]["torch"]
    assert set(env) >= {"time", "commit", "device", "cpu", "cores", "threads", "os", "memory_gib"}


def test_an_existing_empty_folder_is_fine(tmp_path: Path) -> None:
    make(tmp_path)
    assert RunFolder.open(tmp_path).command == "train"


@pytest.mark.parametrize("name", ["config.yaml", ".hidden"])
def test_a_folder_with_anything_in_it_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(RunError, match="exists already and is never overwritten"):
        make(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(RunError, match="exists already"):
        make(tmp_path / "run")
    with pytest.raises(RunError, match=r"cannot create .*run/below: "):
        make(tmp_path / "run" / "below")


def test_a_config_that_is_not_plain_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        make(tmp_path / "run", config={"path": Path()})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("format: 1\nverb: [", "config.yaml: not YAML "),
        ("- 1", "'format' is missing or wrong"),
        ("format: 1\nconfig: {}", "'verb' is missing or wrong"),
        ("format: 1\nverb: train\nconfig: 3", "'config' is missing or wrong"),
        ("format: 2\nverb: train\nconfig: {}", "has format 2, .* use a newer robustkit"),
        ("format: 1\nverb: evolve\nconfig: {}", "is a run of 'evolve', not of 'train'"),
        ("!!python/object/apply:os.getcwd []", "config.yaml: line 1: the tag "),
    ],
)
def test_what_is_wrong_with_a_config_is_said_in_one_line(
    tmp_path: Path, content: str, message: str
) -> None:
    make(tmp_path)
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(RunError, match=message) as caught:
        RunFolder.open(tmp_path, command="train")
    assert "\n" not in str(caught.value)


def test_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder: it has no config.yaml"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="nowhere is not a run folder: there is no such folder"):
        RunFolder.open(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_damaged_environment(tmp_path: Path, content: str) -> None:
    make(tmp_path)
    (tmp_path / "env.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"env\.json( is damaged)?: "):
        RunFolder.open(tmp_path)


def test_a_summary_has_its_format_and_verb(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert run.summary() is None
    run.write_summary({"clean_acc": 0.5})
    assert run.summary() == {"format": 1, "verb": "train", "clean_acc": 0.5}
    run.file("summary.json").write_text("{")
    with pytest.raises(RunError, match=r"summary\.json: not JSON"):
        run.summary()


HOLDER = """
import sys
from robustkit.runs.folder import RunFolder
with RunFolder.open(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    run = make(tmp_path)
    with run.lock():
        pass
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="is in use by another process"), run.lock():
            pass
        holder.kill()
        holder.wait()
        with run.lock():
            pass


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"lr": 0.1}, r"option 'lr' is 0\.1, but the saved run has 1e-05; leave it out"),
        ({"lr": 1e-05, "out": 3}, "option 'out' is 3, but the saved run has None"),
        ({"search": {"population": 9}}, r"option 'search\.population' is 9, .* has 8"),
        ({"lambda": 1}, "option 'lambda' is 1, but the saved run has no such option"),
    ],
)
def test_a_changed_option_is_named(given_options: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        check_same_config(CONFIG, given_options)


OPTIONS = st.dictionaries(
    st.text(min_size=1),
    st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
)


@given(OPTIONS, st.data())
def test_any_part_of_the_saved_config_is_accepted(saved: dict[str, Any], data: Any) -> None:
    again = yaml.safe_load(yaml.safe_dump(saved, sort_keys=False))
    names = data.draw(st.sets(st.sampled_from(sorted(saved)))) if saved else set()
    check_same_config(again, {name: saved[name] for name in names})


def test_a_tuple_equals_the_list_it_was_saved_as() -> None:
    check_same_config(CONFIG, {"shape": (1, 2), "search": {}, "lr": 1e-05})
