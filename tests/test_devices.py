import pytest

from groundcli.devices import torch_device
from groundcli.errors import UsageError


@pytest.mark.parametrize("name", ["mps", "meta", "xpu", "cpu:1", "cuda:", "cuda:-1", "cuda:99999999999", "gpu", ""])
def test_what_is_no_device_for_us(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^--device {name}: expected auto, cpu, cuda or cuda:N$"):
        torch_device(name)
