"""The chunked cross-entropy against the plain one: loss, gradients, precision, chunks, what is stored."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import weight_norm

from audiossl.losses import prototypes
from audiossl.losses.prototypes import prototype_cross_entropy


def case(n_rows=9, n_targets=4, k=23, d=6, seed=0):
    """Student rows with one to three targets each: embeddings, a weight for each pair (N, R), prototypes, targets."""
    torch.manual_seed(seed)
    z = F.normalize(torch.randn(n_rows, d), dim=-1).requires_grad_()
    pair_weights = torch.rand(n_targets, n_rows) * (torch.rand(n_targets, n_rows) > 0.5)
    pair_weights /= pair_weights.sum()  # a mean over pairs, as the losses have it
    layer = weight_norm(torch.nn.Linear(d, k, bias=False))
    layer.parametrizations.weight.original0.data.uniform_(0.5, 3.0)  # lengths that are learned
    return z, pair_weights, layer, torch.randn(n_targets, k).mul(4).softmax(-1)


def plain(z, pair_weights, w, q, temperature):
    log_p = F.log_softmax(z @ w.T / temperature, -1)
    total = torch.zeros(())
    for n in range(len(q)):
        for r in range(len(z)):
            total = total - pair_weights[n, r] * (q[n] * log_p[r]).sum()
    return total


def ours(z, pair_weights, w, q, temperature):
    matches = torch.arange(len(q)).expand(len(z), -1)
    return prototype_cross_entropy(z, matches, pair_weights.T, w, q.split(3), len(q), temperature)


@pytest.mark.parametrize("rows_at_a_time", [1, 4, 100])
def test_loss_and_gradients_equal_the_plain_formula_in_chunks_of_any_size(rows_at_a_time, monkeypatch):
    monkeypatch.setattr(prototypes, "CPU_CHUNK", 23 * rows_at_a_time)
    z, pair_weights, layer, q = case()
    wanted = [z, *layer.parameters()]
    mine, expected = (f(z, pair_weights, layer.weight, q, 0.1) for f in (ours, plain))
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(2.0 * mine, wanted), torch.autograd.grad(2.0 * expected, wanted), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_large_logits_neither_overflow_nor_lose_the_loss():
    z, pair_weights, layer, q = case()
    w = 100.0 * layer.weight.detach()
    mine, expected = (f(z, pair_weights, w, q, 0.04) for f in (ours, plain))
    assert mine.isfinite()
    assert mine.item() == pytest.approx(expected.item(), rel=1e-5)


def gradients_of(loss, wanted):
    return [grad.clone() for grad in torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize(("dtype", "off"), [(torch.bfloat16, 0.01), (torch.float16, 0.005)])
def test_under_autocast_the_loss_is_float32_and_gradients_are_rounded_once(dtype, off):
    z, pair_weights, layer, q = case(n_rows=40, k=300, d=32)
    w = layer.weight
    outside = ours(z, pair_weights, w, q, 0.1)
    with torch.autocast("cpu", dtype):
        inside = ours(z, pair_weights, w, q, 0.1)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(
        inside, outside, atol=0, rtol=1e-3
    )  # with AMX factors of bf16, elsewhere to the last bit
    for a, b in zip(gradients_of(inside, [z, w]), gradients_of(outside, [z, w]), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < off * b.norm()


def test_small_gradients_survive_autocast():
    z, pair_weights, layer, q = case(k=300)
    w = layer.weight
    with torch.autocast("cpu", torch.float16):  # a mean over many pairs: below what float16 can hold
        grads = gradients_of(ours(z, 1e-9 * pair_weights, w, q, 0.1), [z, w])
    for a, b in zip(grads, gradients_of(ours(z, pair_weights, w, q, 0.1), [z, w]), strict=True):
        assert (1e9 * a - b).norm() < 0.01 * b.norm()


def test_no_student_logits_are_kept_for_the_backward_pass():
    n_rows, k, d = 200, 500, 4
    z = torch.randn(n_rows, d, requires_grad=True)
    w = torch.randn(k, d, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        loss = ours(z, torch.ones(3, n_rows), w, torch.rand(3, k), 0.1)
    loss.backward()
    assert sum(sizes) <= n_rows * d + k * d
    assert z.grad.isfinite().all()


def test_each_block_of_targets_is_asked_for_once_and_all_must_come():
    z, w = torch.randn(4, 3), torch.randn(5, 3)
    asked = []

    def blocks(n):
        for number in range(n):
            asked.append(number)
            yield torch.full((2, 5), 0.2)

    own, quarter = torch.arange(4)[:, None], torch.full((4, 1), 0.25)
    with torch.no_grad():
        loss = prototype_cross_entropy(z, own, quarter, w, blocks(2), 4, 0.5)
    assert asked == [0, 1]
    assert loss.item() == pytest.approx(-F.log_softmax(z @ w.T / 0.5, -1).mean().item(), rel=1e-5)
    for n in (1, 3):
        with pytest.raises(ValueError, match=f"{2 * n} rows of targets, where 4 are matched"):
            prototype_cross_entropy(z, own, quarter, w, blocks(n), 4, 0.5)


def test_a_second_derivative_is_refused_rather_than_wrong():
    z, w = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3)
    own, quarter = torch.arange(4)[:, None], torch.full((4, 1), 0.25)
    loss = prototype_cross_entropy(z, own, quarter, w, [torch.full((4, 5), 0.2)], 4, 0.5)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        torch.autograd.grad(loss, z, create_graph=True)
