"""`python -m tests.packaging`: build wheel and sdist, look into them, install and use each of them.

Everything happens in a temporary folder; uv builds, and makes an environment for each archive with
the versions that constraints.txt names.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.packaging.contents import ROOT, check_sdist, check_wheel
from tests.packaging.smoke import Installation, smoke

UV = Path(sys.executable).parent / "uv"


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _uv("build", "--quiet", "--out-dir", folder / "dist", ROOT)
        (wheel,), (sdist,) = (folder.glob(f"dist/*{end}") for end in (".whl", ".tar.gz"))
        check_wheel(wheel)
        check_sdist(sdist)
        for archive in (wheel, sdist):
            start = time.monotonic()
            environment = folder / f"of-{archive.suffix[1:]}"
            _install(archive, environment)
            smoke(Installation(environment, folder / f"used-{archive.suffix[1:]}"))
            print(f"{archive.name}: installed and used, {time.monotonic() - start:.0f} s")
    return 0


def _install(archive: Path, environment: Path) -> None:
    _uv("venv", "--quiet", "--python", sys.executable, environment)
    pins: list[str | Path] = ["-c", ROOT / "constraints.txt"]
    pins += ["--override", ROOT / "overrides.txt"]
    _uv("pip", "install", "--quiet", "--python", environment / "bin" / "python", archive, *pins)


def _uv(*arguments: str | Path) -> None:
    subprocess.run([UV, *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
