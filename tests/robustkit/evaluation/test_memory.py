"""Memory of a transfer evaluation is that of one net and one batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NET, PICTURE = 20 * 2**20, 4 * 3 * 64 * 64  # bytes of one net, and of one picture as floats
# What is freed goes back to the system at once, so that a peak is of what is in use.
STRICT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


def peak(nets: int, pictures: int, folder: Path) -> int:
    command = [sys.executable, "-m", "tests.robustkit.evaluation.peak_memory"]
    done = subprocess.run(
        [*command, str(nets), str(pictures), str(folder)],
        cwd=ROOT,
        env={**os.environ, **STRICT, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_the_peak_grows_neither_with_nets_nor_with_pictures(tmp_path: Path) -> None:
    peaks = {
        (nets, pictures): peak(nets, pictures, tmp_path / f"{nets}-{pictures}")
        for nets in (2, 6)
        for pictures in (100, 400)
    }
    most, least = max(peaks.values()), min(peaks.values())
    # Less than the pictures of one set that are more, and than one net of four that are.
    assert most - least < min(NET, 300 * PICTURE) * 2 // 3, peaks
    assert most < 5 * NET, peaks
