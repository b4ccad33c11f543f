"""Shared layers against what they stand for."""

import pytest
import torch

from ascmodels.layers import global_average


@pytest.mark.parametrize("laid", [torch.channels_last, torch.contiguous_format])
def test_global_average_is_a_mean_whose_gradient_is_written_out(laid):
    gradients = []
    x = torch.randn(3, 4, 5, 6).to(memory_format=laid).requires_grad_()
    weights = torch.randn(3, 4)
    x.register_hook(gradients.append)
    found = global_average(x)
    assert torch.equal(found, x.mean(dim=(2, 3)))
    (found * weights).sum().backward()
    assert torch.allclose(x.grad, (weights / 30).view(3, 4, 1, 1).expand_as(x))
    seen = torch.empty_like(x).copy_(x.grad)
    assert seen.is_contiguous(memory_format=laid)


def test_batch_norm_is_given_no_gradient_of_strides_zero():
    """What makes it slow; a mean alone would."""
    seen = []
    norm = torch.nn.BatchNorm2d(4).to(memory_format=torch.channels_last)
    norm.register_full_backward_pre_hook(lambda _, gradients: seen.append(gradients[0].stride()))
    x = torch.randn(3, 4, 5, 6, requires_grad=True).to(memory_format=torch.channels_last)
    global_average(norm(x)).sum().backward()
    assert seen == [torch.empty(3, 4, 5, 6).to(memory_format=torch.channels_last).stride()]
