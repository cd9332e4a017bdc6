"""Products in float32: what autocast and the switches of torch's backends are inside and afterwards."""

import pytest
import torch

from audiossl.losses.products import float32_products

CPU = torch.device("cpu")
SWITCH = torch.backends.mkldnn.matmul


def test_in_a_run_in_float32_nothing_is_switched():
    with float32_products(CPU):
        assert SWITCH.fp32_precision == "none"
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("fails", [False, True])
def test_in_a_run_in_bf16_products_alone_may_round_and_afterwards_all_is_as_before(fails):
    with torch.autocast("cpu", torch.bfloat16):
        try:
            with float32_products(CPU):
                assert SWITCH.fp32_precision == "bf16"
                assert not torch.is_autocast_enabled("cpu")
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert fails
        assert SWITCH.fp32_precision == "none"
        assert torch.is_autocast_enabled("cpu")


def test_cosines_are_off_by_two_thousandths_at_most():
    torch.manual_seed(0)
    z, w = (torch.nn.functional.normalize(torch.randn(n, 128), dim=-1) for n in (200, 3000))
    with torch.autocast("cpu", torch.bfloat16), float32_products(CPU):
        found = z @ w.T
    assert (found.double() - z.double() @ w.double().T).abs().max() < 2e-3


@pytest.mark.gpu
def test_on_a_gpu_factors_are_tf32_and_the_switch_goes_back():
    torch.manual_seed(0)
    z, w = (torch.nn.functional.normalize(torch.randn(n, 256), dim=-1).cuda() for n in (200, 3000))
    with torch.autocast("cuda", torch.bfloat16), float32_products(z.device):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        found = z @ w.T
    assert torch.backends.cuda.matmul.fp32_precision == "none"
    assert found.dtype == torch.float32
    assert (found.double() - z.double() @ w.double().T).abs().max() < 1e-3
