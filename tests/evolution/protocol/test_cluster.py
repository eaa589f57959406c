"""A search on a cluster of three simulated machines, one of which is taken away on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evolution.protocol.runs import TEXT, rows, summary

pytestmark = pytest.mark.slow

SCRIPT = """
import logging, sqlite3, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from tests.evolution.protocol.runs import evolve

folder, removed_after, arguments = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
others = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
cluster.wait_for_nodes()

def trials():
    try:
        with sqlite3.connect(f"file:{folder}/ledger.sqlite?mode=ro", uri=True) as ledger:
            return ledger.execute("SELECT COUNT(*) FROM trials").fetchone()[0]
    except sqlite3.Error:
        return 0

def remove():
    while trials() < removed_after:
        time.sleep(0.05)
    cluster.remove_node(others[0], allow_graceful=False)
    print(f"removed a machine after {trials()} trials", flush=True)

threading.Thread(target=remove, daemon=True).start()
code = evolve(*arguments, "--executor", "ray", "--workers", "3",
              "--ray-address", cluster.address, "--out", str(folder))
sys.exit(code)
"""


@pytest.mark.parametrize("after", [6, 9])
def test_a_machine_taken_away_changes_nothing(finished: Path, tmp_path: Path, after: int) -> None:
    script, folder = tmp_path / "search.py", tmp_path / "run"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(after), *TEXT.split()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "removed a machine" in done.stdout
    assert rows(folder) == rows(finished)
    assert summary(folder) == summary(finished)
