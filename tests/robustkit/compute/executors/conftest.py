from collections.abc import Iterator

import pytest

from robustkit.compute.executors import Executor, open_executor


@pytest.fixture(scope="session")
def two_processes() -> Iterator[Executor]:
    """Two workers for all tests: starting one takes seconds."""
    with open_executor("processes", workers=2, timeout=120) as opened:
        yield opened
