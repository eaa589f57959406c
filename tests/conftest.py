"""For all tests: one thread each, for they run side by side, and no deadlines on examples.

Examples of `make test` are the same every time: a red run is a change's own doing. `make test-all`
draws other and many more each time, by `HYPOTHESIS_PROFILE=search`.
"""

from __future__ import annotations

import os

from hypothesis import settings

# Before torch is imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

# A deadline would measure how busy the machine is.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
