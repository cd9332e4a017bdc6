"""Features and probes of a run are done once, again when something that matters has changed, and when damaged."""

import json

import numpy as np
import pytest
import soundfile
import torch

from audiossl.backbones import BackboneConfig
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.probes.config import ProbeTableConfig
from audiossl.probes.rows import ENCODER, RANDOM
from audiossl.run import files, stages

QUICK = ProbeTableConfig(quick=True, random_seeds=[0])


@pytest.fixture(scope="module")
def labelled_clips(tmp_path_factory):
    """Tones of three pitches in noise, by six speakers, split by speaker."""
    root, random = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    t = np.arange(4000) / 16000
    for word, hz in {"low": 300, "middle": 900, "high": 2700}.items():
        (root / word).mkdir()
        for speaker in range(6):
            for take in range(4):
                wave = 0.3 * np.sin(2 * np.pi * hz * t) + 0.05 * random.standard_normal(len(t))
                soundfile.write(root / word / f"{speaker:08x}_nohash_{take}.wav", wave, 16000)
    for split, speaker in (("validation", 4), ("testing", 5)):
        lines = [f"{word}/{speaker:08x}_nohash_{take}.wav" for word in ("low", "middle", "high") for take in range(4)]
        (root / f"{split}_list.txt").write_text("\n".join(lines))
    config = DataConfig(root=str(root), clip_s=0.25, cache=str(tmp_path_factory.mktemp("cache")))
    return cache_clips(open_clips(config), config)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10", stages=2), clip_s=0.25)).eval()


def probe(folder, encoder, clips, config=QUICK):
    """The table, what was said, and the folder as it is left when the table was written."""
    said = []
    table = stages.probed(folder, encoder, clips, config, said.append)
    (folder / files.SCORES).write_text(table.to_json())
    stages.done(folder, config)
    return table, said


def test_a_second_time_nothing_is_measured(tmp_path, encoder, labelled_clips):
    first, said = probe(tmp_path, encoder, labelled_clips)
    assert any(ENCODER in text for text in said)
    assert not (tmp_path / files.FEATURES).exists()
    again, said = probe(tmp_path, encoder, labelled_clips)
    assert said == ["probed before: nothing that matters has changed"]
    assert again.markdown() == first.markdown()


DAMAGED = {"cut off": "{", "another kind": '{"about": []}', "nested": "[" * 100_000, "no text": b"\xff\xfe"}


@pytest.mark.parametrize("what", ["weights", "probes", "labels", *DAMAGED])
def test_what_has_changed_is_measured_again(tmp_path, encoder, labelled_clips, what):
    probe(tmp_path, encoder, labelled_clips)
    clips, config = labelled_clips, QUICK
    if what == "weights":
        with torch.no_grad():
            next(encoder.backbone.parameters()).add_(0.1)
    elif what == "probes":
        config = ProbeTableConfig(quick=True, random_seeds=[1])
    elif what == "labels":
        clips = labelled_clips.subset(range(1, len(labelled_clips)))
    else:
        content = DAMAGED[what]
        (tmp_path / files.SCORES).write_bytes(content if isinstance(content, bytes) else content.encode())
    _, said = probe(tmp_path, encoder, clips, config)
    assert any(ENCODER in text for text in said)


def test_an_interrupted_probe_embeds_only_what_is_missing(tmp_path, encoder, labelled_clips, monkeypatch):
    real = encoder.randomised

    def interrupted(seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "randomised", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stages.probed(tmp_path, encoder, labelled_clips, QUICK, lambda text: None)
    with np.load(tmp_path / files.FEATURES) as kept:
        assert ENCODER in kept.files
        assert f"{RANDOM}0" not in kept.files
    monkeypatch.setattr(encoder, "randomised", real)
    monkeypatch.setattr(type(encoder), "forward", _refusing(type(encoder).forward, encoder))
    table, _ = probe(tmp_path, encoder, labelled_clips)
    assert table.rows[0].name == ENCODER


def test_an_interrupted_kind_goes_on_at_its_batch(tmp_path, encoder, labelled_clips, monkeypatch):
    forward, calls = type(encoder).forward, []

    def interrupted(self, wave):
        if calls:
            raise KeyboardInterrupt
        calls.append(len(wave))
        return forward(self, wave)

    many = labelled_clips.subset([*range(len(labelled_clips))] * 5)  # 360: two batches
    monkeypatch.setattr(type(encoder), "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stages.probed(tmp_path, encoder, many, QUICK, lambda text: None)
    seen = []
    monkeypatch.setattr(type(encoder), "forward", lambda self, wave: seen.append(len(wave)) or forward(self, wave))
    table, _ = probe(tmp_path, encoder, many)
    assert seen == [104, 256, 104]  # the encoder's second batch, and both of its random twin
    monkeypatch.setattr(type(encoder), "forward", forward)
    whole = tmp_path / "whole"
    whole.mkdir()
    assert probe(whole, encoder, many)[0].markdown() == table.markdown()
    assert not list(tmp_path.glob("*.rows"))


def _refusing(forward, encoder):
    """A forward that fails for this very encoder, whose features are there already; its random twin may embed."""

    def call(self, wave):
        assert self is not encoder, "embedded a second time"
        return forward(self, wave)

    return call


def test_the_table_is_kept_at_once_and_an_older_map_goes(tmp_path, encoder, labelled_clips):
    (tmp_path / files.MAP).write_text("of another encoder")
    table = stages.probed(tmp_path, encoder, labelled_clips, QUICK, lambda text: None)
    said = []
    assert stages.probed(tmp_path, encoder, labelled_clips, QUICK, said.append).markdown() == table.markdown()
    assert said == ["probed before: nothing that matters has changed"]
    assert not (tmp_path / files.MAP).exists()


def test_features_stay_where_they_are_asked_for(tmp_path, encoder, labelled_clips):
    config = ProbeTableConfig(quick=True, random_seeds=[0], keep_features=True)
    table, _ = probe(tmp_path, encoder, labelled_clips, config)
    with np.load(tmp_path / files.FEATURES) as kept:
        assert kept[ENCODER].shape == (len(labelled_clips), encoder.dim)
    assert json.loads((tmp_path / files.SCORES).read_text())["about"][stages.KEY] == table.about[stages.KEY]


def test_one_vs_rest_is_one_more_column(tmp_path, encoder, labelled_clips):
    plain, _ = probe(tmp_path, encoder, labelled_clips)
    config = ProbeTableConfig(quick=True, random_seeds=[0], one_vs_rest=True)
    table, said = probe(tmp_path, encoder, labelled_clips, config)
    assert any(ENCODER in text for text in said)
    assert table.columns == (*plain.columns, "one-vs-rest")
    assert table.rows[0].scores["one-vs-rest"].mean > 100 / 3
