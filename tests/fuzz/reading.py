"""How reading a hostile file ends."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random

from robustkit.errors import RobustkitError
from tests.fuzz.formats import Format

SECONDS = 5.0  # that reading one file may take


@dataclass(frozen=True)
class Ending:
    """`kind` is "read", "refused" (one of our errors, in one line) or "bug"."""

    kind: str
    told: str = ""


def ending(each: Format, rng: Random, folder: Path) -> Ending:
    path = folder / f"hostile{each.suffix}"
    path.write_bytes(each.variant(rng))
    try:
        each.read(path)
    except RobustkitError as error:
        told = str(error)
        return Ending("refused", told) if "\n" not in told else Ending("bug", f"two lines: {told}")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = next(
            (f"{f.filename}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__))
             if "site-packages" not in f.filename and "/lib/python" not in f.filename),
            f"{last.filename}:{last.lineno}",
        )  # fmt: skip
        return Ending("bug", f"{type(error).__name__}: {str(error)[:150]} at {where}")
    return Ending("read")
