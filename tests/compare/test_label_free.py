"""What needs no labels: clips that are found again when they are heard differently, and how features are spread."""

import numpy as np
import pytest
import torch
from torch import nn

from audiossl.compare.label_free import CHANGES, LABEL_FREE, label_free
from audiossl.data.cached import CachedClips
from audiossl.data.recordings import open_augment
from audiossl.probes.baselines import log_mel_frontend, mean_and_std
from audiossl.run.monitors import feature_std, rankme

RATE = 8000


class Sounds:
    """Tones in noise, none like another, with the attributes of cached clips that are read."""

    def __init__(self, waves):
        self.waves, self.sample_rate = waves, RATE

    def __len__(self):
        return len(self.waves)

    def subset(self, rows):
        return Sounds(self.waves[rows])

    batches = CachedClips.batches

    def __getitems__(self, rows):
        return CachedClips.__getitems__(self, rows)


@pytest.fixture
def sounds():
    rng = np.random.default_rng(0)
    t = np.arange(RATE // 2) / RATE
    hz = np.geomspace(200, 3000, 30)[:, None]
    waves = 3000 * np.sin(2 * np.pi * hz * t) + 300 * rng.standard_normal((30, len(t)))
    return Sounds(waves.astype(np.int16))


class Network(nn.Module):
    """A statistic of the wave as an encoder, with one weight that says where it lies."""

    def __init__(self, statistic):
        super().__init__()
        self.statistic, self.weight = statistic, nn.Parameter(torch.zeros(1))

    def forward(self, wave):
        assert wave.dtype == torch.float32
        assert not self.training
        return self.statistic(wave)


def features(network, sounds):
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(sounds.waves / 32768).float()).numpy()


def measured(statistic, sounds):
    network = Network(statistic)
    return label_free(features(network, sounds), network, sounds)


def log_mel(wave):
    return mean_and_std(log_mel_frontend(RATE)(wave))


def test_statistics_of_pictures_find_their_clips_again(sounds):
    found = measured(log_mel, sounds)
    assert set(found) == set(LABEL_FREE)
    assert found["agreement"] > 90


def test_a_network_for_which_all_clips_are_alike_finds_one(sounds):
    found = measured(lambda wave: torch.ones(len(wave), 8), sounds)
    assert found["agreement"] == pytest.approx(100 / 30)
    assert found["spread, %"] == pytest.approx(0, abs=1e-3)


def test_a_network_that_hears_every_change_finds_few(sounds):
    # The sign of single samples tells clips apart, and a shift changes it.
    assert measured(lambda wave: (wave[:, ::7] > 0).float(), sounds)["agreement"] < 50


def test_it_is_the_share_of_nearest_neighbours_that_are_the_clip(sounds):
    # As many noisy numbers beside the picture's as make some clips miss themselves.
    def blurred(wave):
        return log_mel(wave) + 3 * torch.sin(1e4 * wave[:, :128])

    network = Network(blurred)
    x = features(network, sounds)
    with torch.inference_mode():
        changed = open_augment(CHANGES, RATE)(torch.from_numpy(sounds.waves), torch.Generator().manual_seed(0))
        other = network(changed).numpy() - x.mean(0)
    clean = x - x.mean(0)
    hits = 0
    for row, one in enumerate(other):
        cosines = [one @ two / np.linalg.norm(one) / np.linalg.norm(two) for two in clean]
        hits += int(np.argmax(cosines) == row)
    found = label_free(x, network, sounds)["agreement"]
    assert 0 < hits < 30
    assert found == pytest.approx(100 * hits / 30)


def test_spread_and_rank_are_the_monitors_and_need_no_encoder(sounds):
    x = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)
    found = label_free(x, None, sounds)
    rows = torch.from_numpy(x)
    assert found == pytest.approx({"RankMe": rankme(rows), "spread, %": 100 * feature_std(rows)}, rel=1e-5)


def test_it_repeats_and_leaves_the_encoder_as_it_was(sounds):
    network = Network(log_mel)
    x = features(network, sounds)
    network.train()
    first = label_free(x, network, sounds)
    assert network.training
    assert label_free(x, network, sounds) == first


def test_of_many_clips_a_thousand_are_drawn():
    rng = np.random.default_rng(0)
    many = Sounds((3000 * rng.standard_normal((1200, 800))).astype(np.int16))
    seen = []

    def counting(wave):
        seen.append(len(wave))
        return wave[:, :16]

    label_free(rng.normal(size=(1200, 16)).astype(np.float32), Network(counting), many)
    assert sum(seen) == 1000
