import resource
from pathlib import Path

import pytest

from robustkit.errors import RunError
from robustkit.runs import metrics


def test_records_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert metrics.read(path) == []
    for number in range(3):
        metrics.append(path, {"epoch": number, "name": "Δ\n"})
    assert metrics.read(path) == [{"epoch": n, "name": "Δ\n"} for n in range(3)]


def test_a_torn_last_line_is_left_out_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, {"epoch": 0})
    metrics.append(path, {"epoch": 1})
    whole = path.read_bytes()
    for cut in range(1, 12):
        path.write_bytes(whole[:-cut])
        assert metrics.read(path) == [{"epoch": 0}]
        metrics.append(path, {"epoch": 2})
        assert metrics.read(path) == [{"epoch": 0}, {"epoch": 2}]


@pytest.mark.parametrize("line", ["{", "[1]", ""])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n' + line + "\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl: line 2: (not JSON|no JSON object)"):
        metrics.read(path)


def test_nan_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        metrics.append(tmp_path / "m", {"loss": float("nan")})


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m"
    metrics.append(path, {"epoch": 0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(RunError, match=r"cannot write .*m: no space left on the device"):
            metrics.append(path, {"text": "x" * 50})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert metrics.read(path) == [{"epoch": 0}]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match=r"metrics\.jsonl: Is a directory"):
        metrics.append(tmp_path / "metrics.jsonl", {"loss": 1.0})
