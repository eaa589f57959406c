from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from robustkit.cli.main import main
from robustkit.commands import doctor as diagnosis
from robustkit.commands.doctor import Finding


def test_this_installation_is_usable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROBUSTKIT_DATA", raising=False)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "robustkit is usable." in printed
    assert "ROBUSTKIT_DATA is not set" in printed


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "raise ImportError('undefined symbol: _ZN3c10')",
        "raise OSError('libcudart.so.12: cannot open shared object file')",
        "",  # loads, but has no compiled operators
    ],
)
def test_a_torchvision_built_for_another_torch_is_recognised(
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(source)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG  torch, torchvision" in printed
    assert "To be fixed: torch, torchvision." in printed
    assert re.search(r"-m pip install --force-reinstall torch==\S+ torchvision==\S+\n", printed)


def test_a_missing_torch_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert diagnosis.torch_pair().status == "wrong"
    assert diagnosis.gpu() == Finding("GPU", "note", "unknown: torch does not load")


def test_an_old_python_is_wrong() -> None:
    finding = diagnosis.python((3, 10, 4))
    assert finding.status == "wrong"
    assert "make PYTHON=" in finding.fix


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=1.26", "no-such-package>=2", 'also-absent; extra == "dev"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    finding = diagnosis.packages()
    assert finding.status == "wrong"
    assert finding.fix.endswith("pip install no-such-package")


def test_a_copy_over_robustbench_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchattacks' wheel holds an old robustbench, which its last installation leaves there."""
    recorded = "utils.py,sha256=EVB6Di9eadXfpApiob17buV-a82FxnybhDGzb_8hxDc,3"  # of "new"
    module, info = tmp_path / "robustbench", tmp_path / "robustbench-1.1.1.dist-info"
    module.mkdir()
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: robustbench\nVersion: 1.1.1\n")
    (info / "RECORD").write_text(f"robustbench/{recorded}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (module / "utils.py").write_text("new")
    assert diagnosis.robustbench() == Finding("RobustBench", "ok", "1.1.1")
    (module / "utils.py").write_text("old")
    finding = diagnosis.robustbench()
    assert finding.status == "note"
    assert finding.fix.endswith("pip install --force-reinstall --no-deps robustbench")


def test_data_roots_say_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path))
    assert diagnosis.data_roots().status == "note"
    (tmp_path / "mnist.npz").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "signs").mkdir()
    assert diagnosis.data_roots() == Finding("data", "ok", f"{tmp_path}: mnist.npz, signs")
    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path / "nowhere"))
    finding = diagnosis.data_roots()
    assert finding.status == "wrong"
    assert "nowhere is not a folder" in finding.detail


def test_every_wrong_finding_has_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("ROBUSTKIT_DATA", "/no/such/folder")
    wrong = [finding for check in diagnosis.CHECKS if (finding := check()).status == "wrong"]
    assert {finding.what for finding in wrong} == {"torch, torchvision", "data"}
    assert all(finding.fix for finding in wrong)
