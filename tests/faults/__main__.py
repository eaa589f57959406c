"""`python -m tests.faults [N]`: every fault at N random moments, and a table of what became."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.faults import FAULTS, suffer, undisturbed


def main(arguments: list[str]) -> int:
    count = int(arguments[0]) if arguments else 100
    print("| fault | runs | struck | resumed to the same end | seconds |\n|---|---|---|---|---|")
    failed = 0
    for name in FAULTS:
        if len(arguments) > 1 and name not in arguments[1:]:
            continue
        start, struck, right = time.monotonic(), 0, 0
        with tempfile.TemporaryDirectory() as kept:
            folder = Path(kept)
            wanted = undisturbed(folder)
            runs = 0
            # Until it has struck so often: some runs end before their moment comes.
            while struck < count and runs < 4 * count:
                try:
                    struck += suffer(name, runs, folder, wanted)
                    right += 1
                except AssertionError as error:
                    print(f"    {name} {runs}: {error}", file=sys.stderr, flush=True)
                    failed += 1
                runs += 1
                for done in folder.glob(f"{name.replace(' ', '-')}-*"):
                    shutil.rmtree(done) if done.is_dir() else done.unlink()
        told = f"{runs} | {struck} | {right} of {runs} | {time.monotonic() - start:.0f}"
        print(f"| {name} | {told} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
