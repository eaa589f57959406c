import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from robustkit.errors import RunError
from robustkit.runs.atomic import atomic_path, is_disk_full, write_json, write_text


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "Δ\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Δ\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_suffix_is_kept_for_writers_that_add_one(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.npy") as temporary:
        np.save(temporary, np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), atomic_path(tmp_path / "a.txt") as temporary:
        raise error(temporary.write_text("half"))
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_new_file_obeys_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_json_round_trip_and_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ε": 0.1, "n": None})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ε": 0.1, "n": None}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*a\.txt: .*nowhere is not a folder"):
        write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a.txt"):
        raise PermissionError(13, "Permission denied", "/somewhere/else")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(8192)),
        lambda path: save_file({"w": torch.zeros(4096)}, path),
    ],
    ids=["python", "native"],
)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    """A limit on the size of files is the full disk one can have without being root."""
    write_text(tmp_path / "a.safetensors", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with (
            pytest.raises(RunError, match=r"a\.safetensors: no space left on the device") as caught,
            atomic_path(tmp_path / "a.safetensors") as temporary,
        ):
            write(temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_disk_full(caught.value.__cause__ or caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert (tmp_path / "a.safetensors").read_text() == "old"


def test_importing_runs_does_not_import_torch() -> None:
    code = "import robustkit.runs, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_went_wrong_is_told_though_the_rest_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(RunError, match="no space left"), atomic_path(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
