import pytest
import torch

from robustkit.compute.devices import single_thread


def test_one_thread_inside_and_as_many_as_before_after_it() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError, match="1 thread"), single_thread():
            raise ZeroDivisionError(f"{torch.get_num_threads()} thread")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
