"""HEAR's rules: attributes, shapes, types, times in ms; and the same numbers as featurize."""

import numpy as np
import pytest
import torch

from audiossl import hear
from audiossl.encoder import load_model
from audiossl.errors import UserError
from audiossl.featurize import featurize

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore:these recordings")


@pytest.fixture(scope="module")
def model(encoder_folder):
    return hear.load_model(str(encoder_folder))


def noise(n, count=2):
    return 0.1 * torch.randn(count, n, generator=torch.Generator().manual_seed(n))


def test_attributes(model):
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate in (16000, 22050, 32000, 44100, 48000)
    assert isinstance(model.scene_embedding_size, int)
    assert isinstance(model.timestamp_embedding_size, int)


@pytest.mark.parametrize("n", [1, 160, 15999, 16000, 16001, 40000, 20 * RATE])
def test_shapes_types_and_times(model, n):
    audio = noise(n)
    scene = hear.get_scene_embeddings(audio, model)
    assert scene.shape == (2, model.scene_embedding_size)
    stamps, times = hear.get_timestamp_embeddings(audio, model)
    assert stamps.shape == (2, times.shape[1], model.timestamp_embedding_size)
    assert scene.dtype == stamps.dtype == times.dtype == torch.float32
    assert scene.isfinite().all()
    assert stamps.isfinite().all()
    assert torch.equal(times[0], times[1])
    assert times[0, 0] == 0
    assert (times.diff() == 50.0).all()
    assert 0 <= 1000 * n / RATE - times[0, -1] < 50


@pytest.mark.parametrize("n", [800, 16000, 16100, 16400, 56000])
def test_a_scene_is_a_clip_of_featurize(model, n):
    audio = noise(n)
    scene = hear.get_scene_embeddings(audio, model)
    clips = featurize(audio.numpy(), model.encoder, RATE).embeddings
    assert np.abs(scene.numpy() - clips).max() < 1e-5


def test_int16_is_the_same_sound(model):
    audio = (noise(20000) * 32768).round().clamp(-32768, 32767)
    scenes = [hear.get_scene_embeddings(some, model) for some in (audio / 32768, audio.to(torch.int16))]
    assert torch.allclose(*scenes, atol=1e-6)


def test_the_stamp_that_hears_a_click_is_around_it(model):
    """A click after 1.5 s changes stamps within half a window of it, and no others."""
    quiet = noise(48000, 1)
    loud = quiet.clone()
    loud[0, 24000] = 1.0
    before, times = hear.get_timestamp_embeddings(quiet, model)
    change = (hear.get_timestamp_embeddings(loud, model)[0] - before).abs().amax(2)[0]
    near = (times[0] - 1500).abs() <= 500
    assert (change[near & ((times[0] - 1500).abs() < 450)] > 1e-4).all()
    assert (change[~near] < 1e-5).all()


def test_a_sound_alone_is_the_same(model):
    audio = noise(30000, 3)
    stamps, _ = hear.get_timestamp_embeddings(audio, model)
    alone = torch.cat([hear.get_timestamp_embeddings(one[None], model)[0] for one in audio])
    assert (stamps - alone).abs().max() < 1e-5


def test_stamps_are_windows_around_their_times(model):
    audio = noise(40000, 1)
    stamps, times = hear.get_timestamp_embeddings(audio, model)
    padded = torch.nn.functional.pad(audio, (8000, 8000))
    for n in (0, 10, 30):
        centre = round(times[0, n].item() / 1000 * RATE)
        with torch.inference_mode():
            wanted = model.encoder(padded[:, centre : centre + RATE])
        assert (stamps[:, n] - wanted).abs().max() < 1e-5


def test_another_hop(encoder_folder):
    model = hear.load_model(encoder_folder, hop_ms=10)
    _, times = hear.get_timestamp_embeddings(noise(3200), model)
    assert times[0].tolist() == pytest.approx([10.0 * n for n in range(21)])


def test_without_a_path_it_is_the_model_that_comes_with_audiossl():
    assert hear.load_model().scene_embedding_size == load_model().dim


def test_mistakes(model, encoder_folder):
    with pytest.raises(UserError, match="no model 'none'"):
        hear.load_model("none")
    with pytest.raises(UserError, match="hop_ms is 0"):
        hear.load_model(encoder_folder, hop_ms=0)
    for shape in ((16000,), (2, 0)):
        with pytest.raises(UserError, match="give \\(sounds, samples\\)"):
            hear.get_scene_embeddings(torch.zeros(shape), model)
