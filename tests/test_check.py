"""The self-check: our encoders pass, and each fault fails its own line."""

import pytest
import torch
from torch import nn

from audiossl import check_encoder
from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig


@pytest.mark.parametrize("name", ["resnet10", "swin_micro", "vit_tiny", "timm/convnext_atto", "audiontt_2020"])
def test_our_encoders_pass(name):
    torch.manual_seed(0)
    report = check_encoder(AudioEncoder.build(EncoderConfig(backbone=BackboneConfig(name))).eval())
    assert report, str(report)
    assert str(report).count("ok  ") == len(report.checks) == 10


class Sound(nn.Module):
    """A plain encoder without a fault, which each test gives one."""

    sample_rate, n_samples, dim = 16000, 1600, 4

    def __init__(self):
        super().__init__()
        self.eval()

    def forward(self, wave):
        wave = wave.float() / 32768 if wave.dtype == torch.int16 else wave
        x = torch.stack([wave.mean(1), wave.square().mean(1), wave.abs().amax(1), wave.diff().abs().mean(1)], 1)
        return self.finish(torch.nan_to_num(x), wave)

    def finish(self, x, wave):
        return x


def fault(finish, **attributes):
    return type("Faulty", (Sound,), {"finish": finish, **attributes})()


def in_place(self, x, wave):
    wave.clamp_(-1, 1)  # the second time nothing would change any more
    return x


FAULTS = {
    "sample rate": fault(lambda self, x, wave: x, sample_rate=None),
    "shape and type": fault(lambda self, x, wave: x.double()),
    "the same twice": fault(lambda self, x, wave: x + torch.rand_like(x)),
    "a clip alone as in a batch": fault(lambda self, x, wave: x - x.mean(0)),
    "silence, full scale, one value": fault(lambda self, x, wave: x.log()),
    "different sounds differ": fault(lambda self, x, wave: torch.ones_like(x)),
    "int16 as floats": type("Faulty", (Sound,), {"forward": lambda self, wave: Sound.forward(self, wave.float())})(),
    "shorter and longer clips": fault(lambda self, x, wave: x if wave.shape[1] == 1600 else x[:, :2]),
    "the input is left as it was": fault(in_place),
    "eval mode": Sound().train(),
}


def test_the_plain_one_passes():
    assert check_encoder(Sound()), str(check_encoder(Sound()))


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fails_its_line(name):
    report = check_encoder(FAULTS[name])
    assert not report
    assert name in {check.name for check in report.checks if not check.passed}, str(report)


def test_an_encoder_that_raises_is_a_line():
    class Broken(nn.Module):
        sample_rate = 16000

        def forward(self, wave):
            raise RuntimeError("no sound today")

    report = check_encoder(Broken().eval())
    assert "FAILED  shape and type: RuntimeError: no sound today" in str(report)
    Broken.sample_rate = None
    assert "FAILED  sample rate: None Hz" in str(check_encoder(Broken().eval()))


def test_an_encoder_of_another_interface():
    """HEAR's: a model of its own attributes, and a function that gives its embeddings."""
    model = Sound()
    model.scene_embedding_size = 4
    calls = []

    def get_scene_embeddings(wave, model):
        calls.append(wave.shape)
        return model(wave)

    report = check_encoder(model, lambda wave: get_scene_embeddings(wave, model))
    assert report, str(report)
    assert calls
    assert not check_encoder(model, lambda wave: model(wave)[:, :3])
