"""The memory of past clips: what it keeps, what it mixes, that it goes on after a restart."""

import torch
from audiossl.transforms import image as augment
from audiossl.transforms.draws import Draws
from audiossl.transforms.mixup import MixupMemory, mix_powers


def test_mixing_equals_a_loop_over_clips():
    image, background, share = torch.randn(6, 1, 4, 5), torch.randn(6, 1, 4, 5), 0.4 * torch.rand(6)
    out = mix_powers(image.exp(), background.exp(), share)
    for b, part in enumerate(share.double()):
        expected = torch.log((1 - part) * image[b].double().exp() + part * background[b].double().exp())
        torch.testing.assert_close(out[b].double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(out, augment.log_mixup_exp(image, background, share), atol=1e-6, rtol=1e-6)


def test_a_share_of_zero_and_silence():
    image = torch.full((2, 1, 3, 3), -12.0)
    assert mix_powers(image.exp(), image.exp(), torch.tensor([0.0, 0.4])).allclose(image, atol=1e-5)
    assert mix_powers(image.exp(), torch.zeros_like(image), torch.tensor([0.0, 0.4])).isfinite().all()


def kept(memory):
    return memory.power[:, 0, 0, 0].log().round().int().tolist()


def numbered(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).exp()


def test_the_memory_is_first_in_first_out():
    memory = MixupMemory(5, (1, 1, 1))
    assert len(memory) == 0
    memory.remember(numbered(1, 2, 3))
    assert (len(memory), kept(memory)[:3]) == (3, [1, 2, 3])
    memory.remember(numbered(4, 5, 6, 7))
    assert (len(memory), kept(memory)) == (5, [6, 7, 3, 4, 5])
    memory.remember(numbered(8))
    assert kept(memory) == [6, 7, 8, 4, 5]


def test_a_batch_larger_than_the_memory_leaves_its_last_clips():
    memory = MixupMemory(3, (1, 1, 1))
    memory.remember(numbered(1, 2))
    memory.remember(numbered(3, 4, 5, 6, 7))
    assert sorted(kept(memory)) == [5, 6, 7]


def test_only_what_is_there_is_drawn():
    memory, draws = MixupMemory(100, (1, 1, 1)), Draws(torch.Generator().manual_seed(0))
    assert memory.draw(50, draws).max() == 0
    memory.remember(numbered(*range(7)))
    assert sorted(set(memory.draw(500, draws).tolist())) == list(range(7))


def test_a_restored_memory_goes_on_as_the_first():
    first, second = MixupMemory(4, (1, 1, 1)), MixupMemory(4, (1, 1, 1))
    first.remember(numbered(1, 2, 3, 4, 5, 6))
    second.load_state_dict(first.state_dict())
    for memory in (first, second):
        memory.remember(numbered(7, 8))
    assert len(second) == 4
    assert second.power.equal(first.power)
    assert second.n_seen == first.n_seen


def test_gradients_flow_through_a_mixture_to_both_sounds():
    image, other = (torch.randn(2, 1, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    share = torch.tensor([0.1, 0.6], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: mix_powers(a.exp(), b.exp(), share), (image, other))
    with torch.no_grad():
        plain = mix_powers(image.exp(), other.exp(), share)
    torch.testing.assert_close(mix_powers(image.exp(), other.exp(), share).detach(), plain)
