"""What fine-tuning begins with: names and tables of labels, what a teacher gives, the fitted head."""

import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig

from audiossl.backbones import BackboneConfig
from audiossl.classifier import Classifier
from audiossl.data import DataConfig
from audiossl.data.cached import CachedClips, WaveRows
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead
from audiossl.methods.supervised import SupervisedConfig
from audiossl.run.finetune_config import FinetuneConfig
from audiossl.run.finetuning import data_at_rate, fit_head, lesson, targets

RATE = 8000
CPU = torch.device("cpu")
PICTURE = MelConfig(sample_rate=RATE, n_fft=256, win_length=256, hop_length=129, n_bins=32, f_max=3800.0)


def clips(tmp_path, labels, splits):
    """Tones of half a second, one pitch a label."""
    n = len(labels)
    names = tuple(sorted({label for label in labels if label}))
    pitch = {name: 300.0 * 1.7**number for number, name in enumerate(names)}
    time_s = np.arange(RATE // 2) / RATE
    noise = np.random.default_rng(0).normal(size=(n, len(time_s)))
    tones = np.stack([np.sin(2 * np.pi * pitch.get(label, 0.0) * time_s) for label in labels])
    waves = np.round(8000 * tones + 400 * noise).astype(np.int16)
    waves.tofile(tmp_path / "waves.bin")
    rows = WaveRows(tmp_path / "waves.bin", *waves.shape)
    ids = [f"clip{i}" for i in range(n)]
    full = np.full(n, waves.shape[1])
    return CachedClips(rows, full, ids, labels, [None] * n, splits, names, RATE, "tones", "by hand", [])


def encoder():
    torch.manual_seed(0)
    return AudioEncoder.build(EncoderConfig(PICTURE, BackboneConfig("resnet10", stages=1), 0.5)).eval()


LABELS = ["a", "b", "c"] * 6 + [None, None]
SPLITS = ["training"] * 12 + ["validation"] * 3 + ["testing"] * 3 + ["training", "testing"]


def test_labels_of_the_splits_and_what_has_none(tmp_path):
    found = lesson(clips(tmp_path, LABELS, SPLITS), SupervisedConfig(), 0)
    assert found.names == ("a", "b", "c")
    assert [len(found.truths[split].clips) for split in ("training", "validation", "testing")] == [12, 3, 3]
    np.testing.assert_array_equal(found.truths["testing"].table, np.eye(3))
    assert targets(found, FinetuneConfig(), CPU).tolist() == [0, 1, 2] * 4
    assert found.told == "with 12 labelled clips of 3 labels"


def test_few_clips_are_known_once_and_repeated_in_an_epoch(tmp_path):
    found = lesson(clips(tmp_path, LABELS, SPLITS), SupervisedConfig(label_share=0.25), 0)
    assert len(found.truths["training"].clips) == 3
    assert len(found.clips) == 12
    assert sorted(set(found.clips.ids)) == sorted(found.truths["training"].clips.ids)


def test_labels_that_training_lacks_are_refused(tmp_path):
    labels = [*LABELS[:15], "d", *LABELS[16:]]
    with pytest.raises(UserError, match=r"the testing split has 1 label\(s\) that no training clip has, such as 'd'"):
        lesson(clips(tmp_path, labels, SPLITS), SupervisedConfig(), 0)


def test_ten_thousand_labels_are_whole_numbers(tmp_path):
    labels = [f"{number:05d}" for number in range(10000)]
    waves = np.zeros((10000, 4), np.int16)
    waves.tofile(tmp_path / "waves.bin")
    rows = WaveRows(tmp_path / "waves.bin", *waves.shape)
    none = [None] * 10000
    many = CachedClips(
        rows, np.full(10000, 4), labels, labels, none, ["training"] * 10000, tuple(labels), RATE, "many", "by hand", []
    )
    found = lesson(many, SupervisedConfig(), 0)
    assert targets(found, FinetuneConfig(), CPU).tolist() == list(range(10000))
    assert len(found.truths["training"].clips) == 10000


def test_a_teacher_gives_its_share_by_name(tmp_path):
    found = lesson(clips(tmp_path, LABELS, SPLITS), SupervisedConfig(), 0)
    network = encoder()
    teacher = Classifier(network, ClassifierHead(network.dim, 3), ["c", "a", "b"]).eval()  # another order
    teacher.save_pretrained(tmp_path / "teacher")
    config = FinetuneConfig(teacher=str(tmp_path / "teacher"), teacher_share=0.6, teacher_temperature=2.0)
    wave = torch.from_numpy(np.array(found.clips.waves[:])).float() / 32768
    with torch.no_grad():
        given = (teacher(wave) / 2.0).softmax(1)[:, [1, 2, 0]]
    expected = 0.4 * torch.eye(3).repeat(4, 1) + 0.6 * given
    torch.testing.assert_close(targets(found, config, CPU), expected, atol=1e-5, rtol=1e-5)
    Classifier(network, ClassifierHead(network.dim, 2), ["a", "b"]).save_pretrained(tmp_path / "teacher")
    with pytest.raises(UserError, match=r"knows 2 labels \(a, b \.\.\.\), and the clips have 3"):
        targets(found, config, CPU)


def test_the_fitted_head_names_the_tones(tmp_path):
    found = lesson(clips(tmp_path, LABELS, SPLITS), SupervisedConfig(), 0)
    network = encoder()
    classifier = Classifier(network, ClassifierHead(network.dim, 3), found.names).train()
    assert fit_head(classifier, found) > 0
    assert classifier.encoder.training
    classifier.eval()
    testing = found.truths["testing"]
    with torch.no_grad():
        scores = classifier(torch.from_numpy(np.array(testing.clips.waves[:])))
    assert scores.argmax(1).tolist() == [0, 1, 2]


def test_clips_come_at_the_rate_of_the_encoder():
    data, said = data_at_rate(DataConfig(), RATE)
    assert (data.sample_rate, said) == (
        RATE,
        "the encoder hears 8000 Hz: recordings are resampled to that, not to --data.sample_rate 16000",
    )
    assert data_at_rate(DataConfig(), 16000) == (DataConfig(), "")
