import os
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch

from audiossl.data.cache import cache_clips
from audiossl.data.cached import CachedClips
from audiossl.data.clips import Clip, ClipSet
from audiossl.data.config import DataConfig
from audiossl.data.loader import Batch, stop_workers, training_loader
from audiossl.errors import UserError


@pytest.fixture(scope="module")
def cached(tmp_path_factory) -> CachedClips:
    """Eleven clips of 100 samples; clip i is i + 1 throughout; the first is for testing."""
    folder: Path = tmp_path_factory.mktemp("clips")
    clips = []
    for i in range(11):
        soundfile.write(folder / f"{i:02d}.wav", np.full(100, i + 1, dtype=np.int16), 1000)
        clips.append(Clip(f"{i:02d}", folder / f"{i:02d}.wav", split="training" if i else "testing"))
    config = DataConfig(sample_rate=1000, clip_s=0.1, cache=str(folder / "cache"))
    return cache_clips(ClipSet.of("eleven", clips, ""), config)


def check(batch: Batch, training: CachedClips, batch_size: int) -> list[int]:
    assert isinstance(batch, Batch)
    assert (batch.wave.shape, batch.wave.dtype) == ((batch_size, 100), torch.int16)
    assert (batch.index.shape, batch.index.dtype) == ((batch_size,), torch.int64)
    for wave, index in zip(batch.wave, batch.index.tolist(), strict=True):
        assert set(wave.tolist()) == {int(training.ids[index]) + 1}
    return batch.index.tolist()


@pytest.mark.timeout(60)
def test_workers_read_where_the_temporary_folder_has_a_long_name(cached, tmp_path, monkeypatch):
    # sockets in it would have names too long for the system: batches were lost, and the loop waited for ever
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    training = cached.split("training")
    loader = training_loader(training, 4, workers=2)
    indices = [index for batch in loader for index in check(batch, training, 4)]
    stop_workers(loader)
    assert len(set(indices)) == 8
    assert tempfile.gettempdir() == str(folder)


def test_without_a_folder_for_sockets_workers_are_refused(cached, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/a" * 60)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"--run\.workers: the temporary folder /a.* has a name of 120 bytes.*TMPDIR"):
        training_loader(cached, 4, workers=2)
    assert len(training_loader(cached, 4)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_a_shuffle_without_the_rest(cached, workers):
    training = cached.split("training")
    loader = training_loader(training, 4, workers)
    torch.manual_seed(0)
    epochs = [[check(batch, training, 4) for batch in loader] for _ in range(3)]
    for batches in epochs:
        assert len(batches) == 2
        assert len({index for batch in batches for index in batch}) == 8
    assert len({str(batches) for batches in epochs}) == 3


def test_workers_that_were_stopped_are_gone_and_others_start(cached):
    training = cached.split("training")
    before, loader = psutil.Process().children(), training_loader(training, 4, workers=2)
    for _ in range(2):
        assert len([check(batch, training, 4) for batch in loader]) == 2
        assert len(psutil.Process().children()) == len(before) + 2
        stop_workers(loader)
        assert psutil.Process().children() == before
    stop_workers(loader)
    stop_workers(training_loader(training, 4))


def test_a_batch_is_as_the_single_clips(cached):
    batch = cached.__getitems__([3, 0, 10])
    for wave, index in zip(batch.wave, batch.index.tolist(), strict=True):
        single, place = cached[index]
        assert place == index
        assert torch.equal(wave, single)


def test_accelerate_repeats_the_order_from_the_seed(cached):
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, set_seed

    training = cached.split("training")

    def order(seed: int) -> list[list[int]]:
        accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
        set_seed(seed)
        loader = accelerator.prepare(training_loader(training, 3))
        batches = []
        for epoch in range(2):
            loader.set_epoch(epoch)
            batches += [check(batch, training, 3) for batch in loader]
        rest = accelerator.skip_first_batches(loader, 1)
        rest.set_epoch(1)
        assert [check(batch, training, 3) for batch in rest] == batches[4:]
        return batches

    first = order(1)
    assert len(first) == 6
    assert order(1) == first
    assert order(2) != first


def test_a_batch_larger_than_the_data_set_names_both_numbers_and_the_flag(cached):
    assert len(training_loader(cached, 11)) == 1
    with pytest.raises(UserError, match=r"--run\.batch_size is 12.* 11 clips"):
        training_loader(cached, 12)
    with pytest.raises(UserError, match=r"--run\.batch_size is 0"):
        training_loader(cached, 0)
