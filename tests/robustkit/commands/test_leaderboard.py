"""`robustkit leaderboard` from the command line, on small nets made here."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robustkit import attacks, data, models, training
from robustkit.cli.main import main
from robustkit.commands.leaderboard import pipeline
from robustkit.commands.leaderboard.report import cost_section, ranks_of
from robustkit.commands.leaderboard.result import Entry
from robustkit.commands.leaderboard.suite import SUITES, attacks_of
from robustkit.commands.transfer.preparation import Prepared
from robustkit.errors import ConfigError
from robustkit.stats import Mean
from robustkit.training import TrainConfig

FLAGS = ["--data", "digits", "--test-size", "40", "--eps", "0.2"]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, splits = tmp_path_factory.mktemp("nets"), data.load("digits")
    for number, name in enumerate(("small", "vgg3")):
        net = models.build(
            f"{name}?width=4", num_classes=10, in_channels=1, image_size=16, seed=number
        )
        training.fit(net, splits, TrainConfig(epochs=4, batch_size=50, lr=0.05, seed=number))
        models.save(net, folder / f"{name}.safetensors")
    return folder


def run(nets: Path, out: Path, *further: str, sources: tuple[str, ...] = ("small", "vgg3")) -> int:
    named = [str(nets / f"{name}.safetensors") for name in sources]
    return main(["leaderboard", "--sources", *named, *FLAGS, "--out", str(out), *further])


@pytest.fixture(scope="module")
def board(nets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    suite = folder / "suite.yaml"
    suite.write_text("- fgsm\n- mifgsm+sgm?steps=2\n")
    flags = ("--suite", str(suite), "--attacks", "pgd?steps=2", "mifgsm+pna?steps=2")
    assert run(nets, folder / "out", *flags, "--cache", str(folder / "cache")) == 0
    return folder


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_every_attack_is_on_the_board(board: Path) -> None:
    found = summary(board / "out")
    assert list(found["attacks"]) == [
        "fgsm", "mifgsm+sgm?steps=2", "pgd?steps=2", "mifgsm+pna?steps=2",
    ]  # fmt: skip
    assert found["sources"] == found["targets"] == ["small", "vgg3"]
    for name in ("mifgsm+sgm?steps=2", "mifgsm+pna?steps=2"):
        entry = found["attacks"][name]
        assert entry["score"] is None
        assert set(entry["refused"]) == {"small", "vgg3"}
    assert found["attacks"]["fgsm"]["seconds"] > 0
    # One pass a step, and those that find out how much fits.
    assert 2 <= found["attacks"]["pgd?steps=2"]["passes"] < 3
    page = (board / "out" / "report.html").read_text()
    assert 'class="scroll sortable"' in page
    assert "this net has no residual connection" in page


def test_cells_are_those_of_a_transfer_evaluation(board: Path, nets: Path, tmp_path: Path) -> None:
    found = summary(board / "out")
    assert 10 < found["n_common"] <= found["n"] == 40
    files = [str(nets / f"{name}.safetensors") for name in ("small", "vgg3")]
    command = ["transfer", "--sources", *files, "--targets", *files, "--attack", "pgd?steps=2"]
    command += [*FLAGS, "--no-control", "--gradients", "0", "--cache", str(tmp_path / "cache")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    matrix = summary(tmp_path / "out")["matrix"]
    entry = found["attacks"]["pgd?steps=2"]
    for source, target in (("small", "vgg3"), ("vgg3", "small"), ("small", "small")):
        assert entry["cells"][source][target] == matrix[source][target]["headline"]
    values = [entry["cells"][a][b]["rate"] for a, b in (("small", "vgg3"), ("vgg3", "small"))]
    assert entry["score"]["mean"] == pytest.approx(np.mean(values))
    assert values[0] != values[1]


def test_tables_for_other_tools(board: Path) -> None:
    with (board / "out" / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["attack"] for row in rows} == set(summary(board / "out")["attacks"])
    assert rows[-1]["success"] == ""
    text = (board / "out" / "leaderboard.tex").read_text()
    assert text.count(r"\\") == len(rows) + 1
    assert "mifgsm+pna?steps=2" in text


def test_what_was_made_is_taken_from_the_cache(
    board: Path, nets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--suite", str(board / "suite.yaml"), "--cache", str(board / "cache"))
    before = sorted(path.name for path in (board / "cache").iterdir())
    assert run(nets, board / "again", *flags) == 0
    assert sorted(path.name for path in (board / "cache").iterdir()) == before
    first, again = (summary(board / name)["attacks"]["fgsm"] for name in ("out", "again"))
    assert again == {**first, "best": again["best"], "worst": again["worst"]}
    assert main(["report", str(board / "again")]) == 0


def test_workers_find_the_same(board: Path, nets: Path, tmp_path: Path) -> None:
    flags = ("--suite", str(board / "suite.yaml"), "--cache", str(tmp_path / "cache"))
    assert run(nets, tmp_path / "out", *flags, "--executor", "processes", "--workers", "2") == 0
    alone, found = (summary(each / "out")["attacks"] for each in (board, tmp_path))
    assert list(found) == ["fgsm", "mifgsm+sgm?steps=2"]
    for name, entry in found.items():
        assert entry["cells"] == alone[name]["cells"]
        assert entry["refused"] == alone[name]["refused"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--suite", "standart"], "unknown suite 'standart'; did you mean 'standard'"),
        (["--attacks", "pgd", "--suite", "quick"], "the attack 'pgd' is there twice"),
        (["--attacks", "pgd?steps=10", "--suite", "quick"], "'pgd?steps=10' is the same attack"),
        (["--attacks", "pgdd", "--suite", "quick"], "unknown attack 'pgdd'"),
        (["--suite", "mine.txt"], "a list of your own is a YAML file"),
        (["--attacks", "pgd?eps=0.1", "--suite", "quick"], "set eps by --eps"),
        (["--suite", "missing.yaml"], "missing.yaml"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(
    nets: Path,
    tmp_path: Path,
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(nets, tmp_path / "out", "--cache", "none", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "[]", "attacks: [pgd]", "- pgd\n- 3\n", "- ' '\n- pgd\n"])
def test_a_suite_that_is_no_list_of_attacks_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"suite\.yaml: expected a list of attacks"):
        attacks_of(str(tmp_path / "suite.yaml"))


def test_a_bug_in_one_attack_keeps_its_traceback_and_the_others_go_on(
    nets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "suite.yaml").write_text("- fgsm\n- pgd?steps=2\n")
    flags = ("--suite", str(tmp_path / "suite.yaml"), "--cache", "none")
    real = pipeline._cost

    def cost(prepared: Prepared, source: str) -> tuple[float | None, float | None]:
        if prepared.config.attack == "fgsm":
            raise KeyError("of a bug")
        return real(prepared, source)

    monkeypatch.setattr(pipeline, "_cost", cost)
    assert run(nets, tmp_path / "out", *flags) == 0
    output = capsys.readouterr().out
    assert "fgsm: small: failed, which is a bug" in output
    assert "Traceback (most recent call last)" in output
    assert "in cost" in output
    found = summary(tmp_path / "out")["attacks"]
    assert found["fgsm"]["refused"]["small"] == "failed: KeyError: 'of a bug'"
    assert found["pgd?steps=2"]["best"] == 1
    (tmp_path / "suite.yaml").write_text("- fgsm\n")
    with pytest.raises(RuntimeError, match="in cost"):
        run(nets, tmp_path / "none", *flags)


def test_a_net_at_chance_is_warned_of_before_anything_is_attacked(
    nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factory = (
        "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))\n"
    )
    (tmp_path / "flat.py").write_text(factory)
    (tmp_path / "suite.yaml").write_text("- mifgsm+linbp?steps=2\n")  # which needs ReLUs
    sources = [str(nets / "small.safetensors"), f"flat={tmp_path}/flat.py:make"]
    command = ["leaderboard", "--sources", *sources, "--targets", str(nets / "vgg3.safetensors")]
    command += [*FLAGS, "--suite", str(tmp_path / "suite.yaml"), "--cache", "none"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (warned,) = [line for line in lines if line.startswith("WARNING: flat: ")]
    assert lines.index(warned) < lines.index("mifgsm+linbp?steps=2: small")
    found = summary(tmp_path / "out")
    assert list(found["warnings"]) == ["flat"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Something is wrong here" in page
    # It is neither a target nor can it be attacked so, yet the images are those it gets right, too.
    assert set(found["clean"]) == {"small", "vgg3", "flat"}
    assert found["n_common"] <= found["clean"]["flat"] * found["n"]


def test_every_attack_is_named_where_its_cost_is_drawn() -> None:
    def entry(passes: float) -> Entry:
        score = Mean(value=0.5, n=40, low=0.4, high=0.6)
        return Entry(score=score, best=1, worst=9, cells={}, refused={}, seconds=1.0, passes=passes)

    names = [f"attack-{number}" for number in range(9)]
    passes = [10.0] * 5 + [400.0, 410.0, 420.0, 430.0]
    board = SimpleNamespace(attacks=dict(zip(names, map(entry, passes), strict=True)))
    drawn = str(cost_section(board).html)  # type: ignore[arg-type]
    tips = re.findall('data-tip="([^"]*)"', drawn)
    assert sorted(re.findall(r"attack-\d: 50.0 %", " ".join(tips))) == [
        f"{name}: 50.0 %" for name in names
    ]
    shown = re.findall(r">(attack-\d[^<]*)</text>", drawn)
    assert shown[0] == "attack-0 and 4 more"
    assert len(shown) < len(tips) == 5  # the others would lie on it


def test_a_board_on_which_nothing_can_be_made_is_refused(
    nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.yaml").write_text("- mifgsm+pna\n")
    flags = ("--suite", str(tmp_path / "suite.yaml"), "--cache", "none")
    assert run(nets, tmp_path / "out", *flags) == 2
    assert "no attack can be made on these sources: pna: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["leaderboard", *FLAGS]) == 2
    assert "--sources: name at least one model" in capsys.readouterr().err


def test_an_ensemble_stands_for_its_members(nets: Path, tmp_path: Path) -> None:
    further = models.build("vgg3?width=6", num_classes=10, in_channels=1, image_size=16, seed=5)
    training.fit(further, data.load("digits"), TrainConfig(epochs=3, batch_size=50, lr=0.05))
    models.save(further, tmp_path / "third.safetensors")
    files = [str(nets / f"{name}.safetensors") for name in ("small", "vgg3")]
    suite = tmp_path / "suite.yaml"
    suite.write_text("- mifgsm?steps=2\n- mifgsm+svre?steps=2&inner=1\n- mifgsm+cwa?steps=2\n")
    flags = ["--suite", str(suite), "--ensembles", "logits", "--cache", "none"]
    targets = ["--targets", *files, str(tmp_path / "third.safetensors")]
    command = ["leaderboard", "--sources", *files, *targets, *FLAGS, *flags]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    found = summary(tmp_path / "out")
    assert found["sources"] == ["all, mean logits"]
    for entry in found["attacks"].values():
        assert not entry["refused"]
        # Its members are no other nets.
        third = entry["cells"]["all, mean logits"]["third"]["rate"]
        assert entry["score"]["mean"] == pytest.approx(third)


def test_a_defended_net_is_the_same_net(
    nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(nets / "small.safetensors")
    command = ["leaderboard", "--sources", file, "--targets", f"jpeg={file}|jpeg", *FLAGS]
    assert main([*command, "--suite", "quick", "--out", str(tmp_path / "out")]) == 2
    assert "every target is the source itself, or the same net" in capsys.readouterr().err


def test_suites_are_attacks_that_can_be_made() -> None:
    for name in SUITES:
        for spec in attacks_of(name):
            attacks.make(spec)
    with pytest.raises(ConfigError, match="unknown suite"):
        attacks_of("none")


@pytest.mark.parametrize(
    ("best", "worst", "shown"), [(1, 1, "1"), (2, 5, "2–5"), (None, None, "–")]
)
def test_ranks_as_they_are_shown(best: int | None, worst: int | None, shown: str) -> None:
    entry = Entry(
        score=None, best=best, worst=worst, cells={}, refused={}, seconds=None, passes=None
    )
    assert ranks_of(entry) == shown
