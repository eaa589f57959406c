"""For all tests: one thread each, for they run side by side, and no deadlines on examples."""

from __future__ import annotations

import os

from hypothesis import settings

# Before torch is imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

settings.register_profile("house", deadline=None)
settings.load_profile("house")
