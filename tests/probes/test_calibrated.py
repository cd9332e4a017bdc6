"""The row of random weights with measured batch norms: beside the plain one, which stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiossl.errors import UserError
from audiossl.probes.calibrated import calibrated
from audiossl.probes.table import probe_table


@pytest.fixture
def encoder(encoder):
    """The fake encoder with a batch norm behind it."""

    class WithNorm(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.norm = inner, nn.BatchNorm1d(5)

        def forward(self, wave):
            return self.norm(self.inner(wave)).relu()

        def randomised(self, seed):
            return WithNorm(self.inner.randomised(seed).train(self.training))

    return WithNorm(encoder).eval()


def test_one_more_row_and_the_others_as_they_were(make_clips, encoder):
    plain = probe_table(encoder, make_clips(), random_seeds=(0, 1), columns=("kNN",))
    both = probe_table(encoder, make_clips(), random_seeds=(0, 1), columns=("kNN",), calibrate_random=True)
    assert [row.name for row in both.rows][1:3] == ["same network, random weights", "the same, batch norm calibrated"]
    rest = [row for row in both.rows if row.name != "the same, batch norm calibrated"]
    assert rest == plain.rows
    cell = both.row("the same, batch norm calibrated").scores["kNN"]
    assert cell.low <= cell.mean <= cell.high


def test_statistics_are_those_of_training_clips_and_do_not_depend_on_others(make_clips, encoder):
    clips = make_clips()
    norm = calibrated(encoder.randomised(0), clips).norm
    training = torch.tensor([split == "training" for split in clips.splits])
    waves = torch.from_numpy(clips.waves[training.numpy()].copy()).float() / 32768
    features = encoder.randomised(0).inner(waves)
    assert len(features) == 60  # one batch
    torch.testing.assert_close(norm.running_mean, features.mean(0).detach(), atol=1e-4, rtol=1e-4)
    clips.waves = clips.waves.copy()
    clips.waves[~training.numpy()] = 0
    assert torch.equal(calibrated(encoder.randomised(0), clips).norm.running_mean, norm.running_mean)


def test_a_network_without_batch_norm_is_refused(make_clips, encoder):
    with pytest.raises(UserError, match="--calibrate_random is for networks with batch norm"):
        probe_table(encoder.inner, make_clips(), random_seeds=(0,), columns=("kNN",), calibrate_random=True)
