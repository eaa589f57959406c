import pytest
import torch

from robustkit.compute.devices import resolve_device
from robustkit.errors import DeviceError


def test_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_the_first_kind_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "cpu:"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"unknown device '{name}' .*auto, cpu, cuda"):
        resolve_device(name)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="'cuda:1' is not on this machine: torch sees 1 cuda dev"):
        resolve_device("cuda:1")
    with pytest.raises(DeviceError, match="'cpu:3' is not on this machine"):
        resolve_device("cpu:3")
