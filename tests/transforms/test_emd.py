"""The front end of empirical modes: workers, cache and determinism; its arithmetic is in test_empirical_modes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from audiossl.transforms import Emd, EmdConfig, build_frontend, emd
from audiossl.transforms.empirical_modes import hilbert_picture

from audiossl.errors import UserError

pytest.importorskip("PyEMD", reason="EMD-signal, of the extra `rare`, is not installed")


def front_end(**changes) -> Emd:
    plain = {"hop_length": 100, "n_bins": 24, "trials": 2, "compress": "none"}
    frontend = build_frontend(EmdConfig(**{**plain, **changes}))
    assert isinstance(frontend, Emd)
    return frontend


def waves(n_clips: int = 3) -> torch.Tensor:
    return 0.1 * torch.randn(9, 600, generator=torch.Generator().manual_seed(0))[:n_clips]


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Grows by one for every picture that is computed in this process."""
    calls: list[int] = []

    def counting(wave, config):
        calls.append(len(wave))
        return hilbert_picture(wave, config)

    monkeypatch.setattr(emd, "hilbert_picture", counting)
    return calls


def test_each_clip_has_its_picture_and_no_gradient():
    frontend = front_end()
    batch = waves().requires_grad_()
    image = frontend(batch)
    assert not image.requires_grad
    for clip, found in zip(batch.detach(), image, strict=True):
        assert torch.equal(found[0], torch.from_numpy(hilbert_picture(clip.numpy(), frontend.config)))


def test_a_clip_is_computed_once(computed):
    frontend = front_end()
    batch = waves()[[0, 1, 0, 2, 1]]
    first = frontend(batch)
    assert len(computed) == 3
    assert torch.equal(frontend(batch), first)
    frontend(waves(4))
    assert len(computed) == 4


def test_a_batch_larger_than_the_memory_is_still_whole(computed, monkeypatch):
    monkeypatch.setattr(emd, "MEMORY_BYTES", 1)
    frontend = front_end()
    assert torch.equal(frontend(waves()), frontend(waves()))
    assert len(computed) == 6


def test_a_folder_serves_other_front_ends(computed, tmp_path):
    folder = str(tmp_path / "pictures")
    image = front_end(cache=folder)(waves())
    assert torch.equal(front_end(cache=folder, compress="log")(waves()), (image + 2e-7).log())
    assert len(computed) == 3
    front_end(cache=folder, trials=9)(waves())  # emd has no trials
    assert len(computed) == 3
    for changes in ({"n_bins": 23}, {"f_max": 7000.0}, {"hop_length": 101}, {"method": "eemd"}, {"sample_rate": 22050}):
        front_end(cache=folder, **changes)(waves(1))
    assert len(computed) == 8
    # A picture of another shape under this name is not believed.
    for path in (tmp_path / "pictures").rglob("*.npy"):
        path.write_bytes(b"")
    assert torch.equal(front_end(cache=folder)(waves()), image)
    assert len(computed) == 11


def test_workers_give_the_same_pictures(capfd):
    batch = waves(9)
    here, there = (front_end(method="eemd", workers=n) for n in (0, 2))
    assert torch.equal(here(batch), there(batch))
    assert torch.equal(here(batch[:1]), there(batch[:1]))
    assert capfd.readouterr().err == ""  # no bar where there is no terminal


def test_dead_workers_are_explained(monkeypatch):
    class Dead:
        def map(self, *_):
            raise emd.BrokenProcessPool("a child process terminated abruptly")

    stand_in = emd.functools.lru_cache(lambda n: Dead())
    monkeypatch.setattr(emd, "worker_pool", stand_in)
    with pytest.raises(UserError, match="workers=2: a worker process died"):
        front_end(workers=2)(waves())


def test_neither_workers_nor_cache_change_what_statistics_belong_to():
    config = EmdConfig()
    assert replace(config, workers=3, cache="x").fingerprint() == config.fingerprint()
    assert replace(config, noise=0.1).fingerprint() != config.fingerprint()
    assert config.to_dict()["type"] == "emd"


@pytest.mark.parametrize(("n_bins", "hop_length"), [(64, 167), (32, 334)])
def test_rows_have_equal_width_in_octaves(n_bins, hop_length):
    frontend = front_end(n_bins=n_bins, hop_length=hop_length)
    hz = frontend.frequencies.double()
    assert torch.allclose(hz[1:] / hz[:-1], torch.full((n_bins - 1,), (7800 / 60) ** (1 / n_bins)).double(), rtol=1e-5)
    assert hz[0] > 60 > hz[0] ** 2 / hz[1]
    assert frontend(torch.zeros(1, 16000)).shape == (1, 1, n_bins, 1 + 16000 // hop_length)


def test_without_the_library_the_remedy_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "PyEMD" else found(name))
    with pytest.raises(UserError, match=r'pip install "audiossl-toolkit\[rare\]"'):
        front_end()


def test_on_a_gpu_nan_is_refused_too():
    with pytest.raises(UserError, match="NaN or Inf"):
        front_end().transform(torch.full((1, 100), float("nan")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "vmd"}, "method='vmd' is unknown"),
        ({"trials": 0}, "trials=0"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"workers": -1}, "workers=-1"),
        ({"f_min": 0.0}, "f_min=0 Hz"),
        ({"f_max": 9000.0}, "f_max=9000 Hz"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        front_end(**changes)
