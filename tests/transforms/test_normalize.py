"""Statistics of the training clips: right, independent of order and batches, refused for silence."""

from __future__ import annotations

import pytest
import torch
from audiossl.transforms import MelConfig, Normalize, build_frontend

from audiossl.errors import UserError

FRONT_END = build_frontend(MelConfig(n_fft=256, win_length=256, n_bins=20))
WAVES = 0.1 * torch.randn(24, 3000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 0, 24)[:, None]


@pytest.mark.parametrize("per_bin", [False, True])
def test_measured_picture_has_mean_0_and_deviation_1(per_bin):
    normalize = Normalize.measure(FRONT_END, WAVES.split(5), per_bin)
    assert normalize.mean.shape == ((1, 20) if per_bin else (1, 1))
    image = normalize(FRONT_END(WAVES)).double()
    dims = (0, 1, 3) if per_bin else (0, 1, 2, 3)
    assert image.mean(dims).abs().max() < 1e-5
    assert (image.std(dims, correction=0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("per_bin", [False, True])
def test_order_and_batches_do_not_show(per_bin):
    first = Normalize.measure(FRONT_END, WAVES.split(24), per_bin)
    again = Normalize.measure(FRONT_END, WAVES.split(24), per_bin)
    other = Normalize.measure(FRONT_END, WAVES.flip(0).split(7), per_bin)
    assert torch.equal(first.mean, again.mean)
    assert torch.equal(first.std, again.std)
    assert torch.allclose(first.mean, other.mean, atol=1e-6, rtol=1e-6)
    assert torch.allclose(first.std, other.std, atol=1e-6, rtol=1e-6)


def test_int16_waves_give_the_same():
    whole = (WAVES * 32768).round().clamp(-32768, 32767).to(torch.int16)
    from_int16 = Normalize.measure(FRONT_END, [whole])
    from_float = Normalize.measure(FRONT_END, [whole.float() / 32768])
    assert torch.equal(from_int16.mean, from_float.mean)


def test_statistics_travel_in_the_state_dict_and_make_no_gradient():
    normalize = Normalize.measure(FRONT_END, [WAVES])
    assert sorted(normalize.state_dict()) == ["mean", "std"]
    assert not list(normalize.parameters())
    assert not normalize.mean.requires_grad


def test_silence_and_nothing_are_refused():
    with pytest.raises(UserError, match="silence"):
        Normalize.measure(FRONT_END, [torch.zeros(2, 3000)])
    with pytest.raises(UserError, match="no clips"):
        Normalize.measure(FRONT_END, [])
    with pytest.raises(UserError, match="unusable"):
        Normalize(0.0, 0.0)
    with pytest.raises(UserError, match="wave 0 of the batch holds NaN"):
        Normalize.measure(FRONT_END, [torch.full((1, 3000), float("nan"))])


@pytest.mark.parametrize("per_bin", [False, True])
@pytest.mark.parametrize("kind", ["mel", "fbank", "mfcc"])
def test_padded_clips_with_their_lengths_count_like_clips_alone(kind, per_bin):
    # Without snip_edges a clip is mirrored at its end, and padding takes the mirror's place.
    frontend = build_frontend(kind, **({"snip_edges": True} if kind == "fbank" else {}))
    lengths = torch.tensor([3000, 1600, 400])
    clips = [WAVES[-1 - i : len(WAVES) - i, :n] for i, n in enumerate(lengths.tolist())]
    alone = Normalize.measure(frontend, clips, per_bin)
    padded = torch.cat([torch.nn.functional.pad(clip, (0, 6000 - clip.shape[1])) for clip in clips])
    together = Normalize.measure(frontend, [(padded, lengths)], per_bin)
    assert torch.allclose(alone.mean, together.mean, rtol=1e-6, atol=1e-6)
    assert torch.allclose(alone.std, together.std, rtol=1e-6, atol=1e-6)


def test_what_lies_behind_a_length_does_not_count():
    frontend = build_frontend("mel", n_fft=256, win_length=256, n_bins=20)
    lengths = torch.tensor([1600] * 4)
    loud = WAVES[-4:].clone()
    loud[:, 2000:] = 30.0  # further behind than a window reaches
    quiet = WAVES[-4:].clone()
    quiet[:, 2000:] = 0.0
    means = [Normalize.measure(frontend, [(wave, lengths)]).mean for wave in (loud, quiet)]
    assert torch.equal(*means)


def test_every_channel_has_statistics_of_its_own():
    frontend = build_frontend("stft", n_fft=256, win_length=256, output="complex")
    normalize = Normalize.measure(frontend, WAVES.split(7), per_bin=True)
    assert normalize.mean.shape == (2, frontend.n_bins)
    image = normalize(frontend(WAVES)).double()
    assert image.mean((0, 3)).abs().max() < 1e-5
    assert (image.std((0, 3), correction=0) - 1).abs().max() < 1e-5


def test_statistics_know_their_front_end():
    normalize = Normalize.measure(FRONT_END, [WAVES])
    assert normalize.statistics_of == FRONT_END.config.fingerprint()
    normalize.check_belongs_to(FRONT_END.config)
    with pytest.raises(UserError, match=r"statistics belong to a front end of fingerprint \w{16}, .* restore"):
        normalize.check_belongs_to(MelConfig())
    Normalize(0.0, 1.0).check_belongs_to(MelConfig())  # of no front end: nothing to compare
