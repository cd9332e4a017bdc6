"""The memory of past clips: what it keeps, what it mixes, that it goes on after a restart."""

import copy

import numpy as np
import pytest
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


def numbers(power):
    return (1000 * power[:, 0, 0, 0].log()).round().int().tolist()


def kept(memory):
    return memory.clips()[:, 0, 0, 0].log().round().int().tolist()


def numbered(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


def test_the_memory_is_first_in_first_out():
    memory = MixupMemory(5, (1, 1, 1))
    assert len(memory) == 0
    memory.add(numbered(1, 2, 3))
    assert (len(memory), kept(memory)[:3]) == (3, [1, 2, 3])
    memory.add(numbered(4, 5, 6, 7))
    assert (len(memory), kept(memory)) == (5, [6, 7, 3, 4, 5])
    memory.add(numbered(8))
    assert kept(memory) == [6, 7, 8, 4, 5]


def test_a_batch_larger_than_the_memory_leaves_its_last_clips():
    memory = MixupMemory(3, (1, 1, 1))
    memory.add(numbered(1, 2))
    memory.add(numbered(3, 4, 5, 6, 7))
    assert sorted(kept(memory)) == [5, 6, 7]


def test_only_what_is_there_is_drawn():
    memory, draws = MixupMemory(100, (1, 1, 1)), Draws(torch.Generator().manual_seed(0))
    assert memory.mixture(numbered(*range(7)), torch.rand(14), draws) is None
    mixture = memory.mixture(numbered(7), torch.rand(500), draws)
    seen = mixture.memory[mixture.background].log().round().flatten().int().tolist()
    assert sorted(set(seen)) == list(range(7))


@pytest.mark.parametrize("watched", [False, True], ids=["plain", "steps that may be undone"])
def test_any_batches_undone_steps_and_restarts_leave_what_a_plain_ring_would_hold(watched):
    rng, n_clips, next_number = np.random.default_rng(0), 7, 1
    memory, ring, n_seen = MixupMemory(n_clips, (1, 1, 1)), [0] * n_clips, 0
    for _ in range(200):
        before = list(ring), n_seen
        if watched:
            memory.begin_step()
        for _ in range(rng.integers(1, 4)):  # micro-batches
            batch = numbered(*range(next_number, next_number + int(rng.integers(1, 12))))
            next_number += len(batch)
            n_new = int(rng.integers(1, len(batch) + 1))  # the rest are other pictures of the same clips
            share, source = torch.rand(2 * n_new), torch.Generator().manual_seed(n_seen)
            mixture = memory.mixture(batch / 1000, share, Draws(source))
            assert (mixture is None) == (n_seen == 0)
            if mixture is not None:
                assert mixture.power.equal((batch / 1000).exp())
                places = torch.randint(min(n_seen, n_clips), (2 * n_new,), generator=source.manual_seed(n_seen))
                assert numbers(mixture.memory[mixture.background]) == [ring[place] for place in places]
            for value in batch[:n_new].flatten().tolist():
                ring[n_seen % n_clips], n_seen = int(value), n_seen + 1
        if watched and rng.random() < 0.3:
            memory.undo_step()
            ring, n_seen = before
        if rng.random() < 0.1:
            state = copy.deepcopy(memory.state_dict())
            assert state["power"].shape == (n_clips, 1, 1, 1)
            memory = MixupMemory(n_clips, (1, 1, 1)) if rng.random() < 0.5 else memory
            memory.load_state_dict(state)
        filled = min(n_seen, n_clips)
        assert (len(memory), numbers(memory.clips()[:filled])) == (filled, ring[:filled])


def test_batches_of_one_size_are_written_in_place_and_the_room_does_not_grow():
    memory = MixupMemory(10, (1, 2, 2))
    rooms = set()
    for _ in range(20):
        memory.begin_step()
        for _ in range(2):
            power = memory.add(torch.randn(4, 1, 2, 2))
            inside = power.data_ptr() - memory.power.data_ptr()
            assert 0 <= inside < memory.power.numel() * 4
        rooms.add(len(memory.power))
    assert rooms == {20}


def test_pictures_with_a_gradient_are_kept_without_it():
    memory, image = MixupMemory(4, (1, 2, 2)), torch.randn(3, 1, 2, 2, requires_grad=True)
    memory.add(image).sum().backward()
    assert image.grad.allclose(image.exp())
    assert not memory.power.requires_grad
    assert memory.clips()[:3].equal(image.detach().exp())


def test_a_restored_memory_goes_on_as_the_first():
    first, second = MixupMemory(4, (1, 1, 1)), MixupMemory(4, (1, 1, 1))
    first.add(numbered(1, 2, 3, 4, 5, 6))
    second.load_state_dict(first.state_dict())
    for memory in (first, second):
        memory.add(numbered(7, 8))
    assert len(second) == 4
    assert second.clips().equal(first.clips())
    assert second.n_seen == first.n_seen


def test_gradients_flow_through_a_mixture_to_both_sounds():
    image, other = (torch.randn(2, 1, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    share = torch.tensor([0.1, 0.6], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: mix_powers(a.exp(), b.exp(), share), (image, other))
    with torch.no_grad():
        plain = mix_powers(image.exp(), other.exp(), share)
    torch.testing.assert_close(mix_powers(image.exp(), other.exp(), share).detach(), plain)
