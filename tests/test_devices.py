"""The device that a user names."""

import pytest
import torch

from slem_app.devices import device_name, device_or_cpu, read_device
from slem_app.errors import BadSetting


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Make torch see that many GPUs."""

    def see(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return see


def test_auto_is_a_gpu_where_there_is_one(gpus) -> None:
    gpus(0)
    assert read_device() == torch.device("cpu")
    gpus(2)
    assert read_device("auto") == torch.device("cuda:0")


def test_a_process_of_several_takes_its_own_gpu_unless_one_is_named(gpus, monkeypatch) -> None:
    gpus(2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert read_device("auto") == read_device("cuda") == torch.device("cuda:1")
    assert read_device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("abacus", "unknown device 'abacus': use auto, cpu, cuda or cuda:N"),
        ("meta", "unknown device 'meta'"),
        ("cuda", "there is no device cuda:0: torch sees 0 GPUs here; use auto or cpu"),
        ("cuda:3", "there is no device cuda:3"),
    ],
)
def test_what_is_not_there_is_refused(gpus, wanted: str, message: str) -> None:
    gpus(0)
    with pytest.raises(BadSetting, match=message):
        read_device(wanted)


def test_another_process_gets_the_name_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slem_app.devices.gpu_count", lambda: 2)
    assert [device_name(name) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda",
        "cuda",
        "cuda:1",
        "cpu",
    ]
    assert device_or_cpu("auto") == "cuda"
    monkeypatch.setattr("slem_app.devices.gpu_count", lambda: 0)
    assert (device_name("auto"), device_or_cpu("cuda")) == ("cpu", "cpu")
