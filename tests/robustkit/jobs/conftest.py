import logging
import os
import sys
from collections.abc import Iterator

import pytest

from robustkit.jobs import Executor, open_executor


@pytest.fixture(scope="session")
def two_processes() -> Iterator[Executor]:
    """Two workers for all tests: starting one takes seconds."""
    with open_executor("processes", workers=2, timeout=120) as opened:
        yield opened


@pytest.fixture(scope="session")
def two_actors() -> Iterator[Executor]:
    """Two of Ray's, on a cluster of this process alone."""
    pytest.importorskip("ray")
    # Actors import the jobs from here.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        import ray

        # Room for more than these two: some tests have an executor of their own beside them.
        ray.init(
            "local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        with open_executor("ray", workers=2, timeout=120) as opened:
            yield opened
    finally:
        ray.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
