"""Clips that were padded behind: with their lengths they give the pictures that they give alone, whatever the type."""

from __future__ import annotations

import pytest
import torch
from audiossl.transforms import FrontEndConfig, Normalize, build_frontend

from audiossl.errors import UserError

QUICK: dict[str, dict] = {"matching_pursuit": {"segment_length": 256, "n_scales": 2, "n_atoms": 4}}
EVERY = pytest.mark.parametrize("kind", sorted(FrontEndConfig.get_known_choices()))
LENGTHS = torch.tensor([5000, 1, 8000, 5000])


@pytest.fixture(scope="module")
def waves() -> torch.Tensor:
    return 0.1 * torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))


@EVERY
def test_a_padded_clip_has_the_picture_that_it_has_alone(kind, waves):
    frontend = build_frontend(kind, **QUICK.get(kind, {}))
    image = frontend(waves, LENGTHS)  # noise, not zeros, stands behind the lengths
    mask = frontend.frame_mask(LENGTHS, 8000)
    silence = frontend(torch.zeros(1, 8000))[0]
    assert image.shape == (4, frontend.n_channels, frontend.n_bins, frontend.n_frames(8000))
    for b, length in enumerate(LENGTHS.tolist()):
        alone = frontend(waves[b : b + 1, :length])[0]
        assert int(mask[b].sum()) == alone.shape[-1]
        torch.testing.assert_close(image[b][..., mask[b]], alone, atol=1e-6, rtol=1e-6)
        assert image[b][..., ~mask[b]].equal(silence[..., ~mask[b]])


def test_gradients_reach_what_lies_within_the_lengths_alone(waves):
    wave = waves.clone().requires_grad_()
    build_frontend("mel")(wave, LENGTHS).sum().backward()
    for b, length in enumerate(LENGTHS.tolist()):
        assert wave.grad[b, :length].abs().sum() > 0
        assert wave.grad[b, length:].abs().sum() == 0


@pytest.mark.parametrize("kind", ["reassigned", "wavelet_packet", "fbank"])
def test_statistics_with_lengths_are_those_of_the_clips_alone(kind, waves):
    frontend = build_frontend(kind)
    together = Normalize.measure(frontend, [(waves, LENGTHS)])
    alone = Normalize.measure(frontend, [wave[None, :n] for wave, n in zip(waves, LENGTHS.tolist(), strict=True)])
    torch.testing.assert_close((together.mean, together.std), (alone.mean, alone.std), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("length", [0, -1, 8001])
def test_a_length_that_is_no_part_of_the_clip_is_refused(waves, length):
    lengths = torch.tensor([100, length, 100, 100])
    frontend = build_frontend("mel")
    for call in (lambda: frontend(waves, lengths), lambda: frontend.frame_mask(lengths, 8000)):
        with pytest.raises(UserError, match=rf"lengths holds {length}: clips of a batch of 8000 samples"):
            call()
