import io

import datasets
import numpy as np
import pytest
import soundfile

from audiossl import audio
from audiossl.data import DataConfig, open_clips
from audiossl.data.cache import cache_clips
from audiossl.data.hub_rows import open_stream, rows
from audiossl.errors import UserError

RATE = 8000


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def wav(i: int, n_samples: int = RATE) -> bytes:
    """A constant of i / 16, which int16 and the mean of a row both keep exactly."""
    file = io.BytesIO()
    soundfile.write(file, np.full(n_samples, i / 16, dtype=np.float32), RATE, format="WAV")
    return file.getvalue()


def table(n: int = 6, damaged: tuple[int, ...] = (), split: str | None = None) -> datasets.Dataset:
    content = [b"no audio" if i in damaged else wav(i) for i in range(n)]
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    columns = {
        "audio": [{"bytes": c, "path": f"{i}.wav"} for i, c in enumerate(content)],
        "label": [i % 2 for i in range(n)],
        "speaker": [100 + i // 2 for i in range(n)],
    }
    labels = datasets.ClassLabel(names=["off", "on"])
    plain = datasets.Features({"audio": struct, "label": labels, "speaker": datasets.Value("int64")})
    typed = datasets.Features({"audio": datasets.Audio(), "label": labels, "speaker": datasets.Value("int64")})
    return datasets.Dataset.from_dict(columns, features=plain, split=split).cast(typed)


def config_for(tmp_path, root, **more) -> DataConfig:
    return DataConfig(name="hub", root=str(root), sample_rate=RATE, clip_s=1.0, cache=str(tmp_path / "cache"), **more)


def levels(cached) -> list[int]:
    return [round(float(row.mean()) / 32768 * 16) for row in cached.waves[:]]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_with_its_own_splits(tmp_path, streaming):
    (tmp_path / "sounds" / "data").mkdir(parents=True)
    table(6).to_parquet(tmp_path / "sounds" / "data" / "train-00000-of-00001.parquet")
    table(2).to_parquet(tmp_path / "sounds" / "data" / "test-00000-of-00001.parquet")
    config = config_for(tmp_path, tmp_path / "sounds", streaming=streaming)
    cached = cache_clips(open_clips(config), config)
    assert cached.splits == ["training"] * 6 + ["testing"] * 2
    assert levels(cached) == [0, 1, 2, 3, 4, 5, 0, 1]
    assert cached.labels == ["off", "on"] * 4
    assert cached.label_names == ("off", "on")
    assert cached.speakers == ["100", "100", "101", "101", "102", "102", "100", "100"]
    assert cached.ids[0] == "train/00000000"
    assert len(set(cached.ids)) == 8
    assert "train is training" in cached.split_rule


def test_saved_to_disk_is_split_by_speaker(tmp_path):
    table(6).save_to_disk(tmp_path / "saved")
    config = config_for(tmp_path, tmp_path / "saved")
    cached = cache_clips(open_clips(config), config)
    assert levels(cached) == [0, 1, 2, 3, 4, 5]
    assert "speaker" in cached.split_rule
    of_speaker: dict = {}
    for speaker, split in zip(cached.speakers, cached.splits, strict=True):
        assert of_speaker.setdefault(speaker, split) == split


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_of_audio_files_needs_no_decoder(tmp_path, streaming):
    for i, label in enumerate(["low", "high"]):
        (tmp_path / "sounds" / "train" / label).mkdir(parents=True)
        (tmp_path / "sounds" / "train" / label / "clip one.wav").write_bytes(wav(i + 1))
    config = config_for(tmp_path, tmp_path / "sounds", streaming=streaming)
    cached = cache_clips(open_clips(config), config)
    assert dict(zip(cached.labels, levels(cached), strict=True)) == {"low": 1, "high": 2}


def test_second_opening_decodes_nothing_and_changed_data_decodes_again(tmp_path, monkeypatch):
    folder = tmp_path / "sounds"
    folder.mkdir()
    table(4).to_parquet(folder / "train.parquet")
    config = config_for(tmp_path, folder, streaming=True)
    first = cache_clips(open_clips(config), config)
    with monkeypatch.context() as patch:
        patch.setattr(audio, "load", None)
        second = cache_clips(open_clips(config), config)
    assert second.ids == first.ids
    assert second.waves.path == first.waves.path
    table(5).to_parquet(folder / "train.parquet")
    assert len(cache_clips(open_clips(config), config)) == 5


def test_a_cell_without_a_label_and_nan_are_no_labels(tmp_path):
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    columns = {"audio": [{"bytes": wav(i), "path": None} for i in range(3)]}
    for name, kind, labels, expected in (
        ("numbers", "float64", [1.5, float("nan"), None], ["1.5", None, None]),
        ("texts", "string", ["on", "", None], ["on", None, None]),
    ):
        features = datasets.Features({"audio": struct, "label": datasets.Value(kind)})
        datasets.Dataset.from_dict({**columns, "label": labels}, features=features).save_to_disk(tmp_path / name)
        config = config_for(tmp_path, tmp_path / name)
        assert cache_clips(open_clips(config), config).labels == expected


def test_long_rows_are_cut_damaged_ones_listed_and_limit_kept(tmp_path):
    rows = [wav(1, 3 * RATE), b"no audio", wav(2)]
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    columns = {"sound": [{"bytes": row, "path": None} for row in rows]}
    datasets.Dataset.from_dict(columns, features=datasets.Features({"sound": struct})).save_to_disk(tmp_path / "long")
    config = config_for(tmp_path, tmp_path / "long", audio_column="sound")
    cached = cache_clips(open_clips(config), config)
    assert [id.partition("@")[2] for id in cached.ids] == ["0s", "1s", "2s", ""]
    assert levels(cached) == [1, 1, 1, 2]
    assert cached.labels == [None] * 4
    assert [id for id, _ in cached.skipped] == ["all/00000001"]
    few = config_for(tmp_path, tmp_path / "long", audio_column="sound", limit=2)
    assert len(cache_clips(open_clips(few), few)) == 2


def test_a_limit_gives_as_many_of_every_split_and_one_at_least(tmp_path):
    datasets.DatasetDict(train=table(4), validation=table(4), test=table(4)).save_to_disk(tmp_path / "saved")
    for limit, expected in ((1, [1, 1, 1]), (7, [2, 2, 2])):
        clips = open_clips(config_for(tmp_path, tmp_path / "saved", limit=limit))
        splits = [clip.split for clip in clips]
        assert [splits.count(split) for split in ("training", "validation", "testing")] == expected


def test_mistakes_are_named(tmp_path):
    table(2).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match=r"no column 'sound'.*audio, label, speaker.*--data.audio_column"):
        open_clips(config_for(tmp_path, tmp_path / "saved", audio_column="sound"))
    with pytest.raises(UserError, match=r"no column 'who'.*--data.speaker_column"):
        open_clips(config_for(tmp_path, tmp_path / "saved", speaker_column="who"))
    with pytest.raises(UserError, match=r"not_there.*cannot be opened"):
        open_clips(config_for(tmp_path, tmp_path / "not_there"))
    with pytest.raises(UserError, match=r"needs --data\.root"):
        open_clips(DataConfig(name="hub"))


def test_the_splits_of_what_was_saved_to_disk(tmp_path):
    table(2).save_to_disk(tmp_path / "one")
    table(3, split="test").save_to_disk(tmp_path / "named")
    datasets.DatasetDict(train=table(4), test=table(5)).save_to_disk(tmp_path / "two")
    for name, split, n_rows in (("one", None, 2), ("named", None, 3), ("named", "test", 3), ("two", "test", 5)):
        config = config_for(tmp_path, tmp_path / name, hub_split=split)
        assert len(cache_clips(open_clips(config), config)) == n_rows
        assert len(list(rows(open_stream(str(tmp_path / name), split)))) == n_rows
    for name, split in (("one", "nonsense"), ("one", "audio"), ("named", "train"), ("two", "nonsense")):
        with pytest.raises(UserError, match=rf"{name} cannot be opened .*{split}.*check its name"):
            open_clips(config_for(tmp_path, tmp_path / name, hub_split=split))
        with pytest.raises(UserError, match=rf"hf:.*{name} cannot be opened .*{split}.*check its name"):
            open_stream(str(tmp_path / name), split)


def test_lists_are_refused_since_they_name_files(tmp_path):
    with pytest.raises(UserError, match=r"--data\.lists .* leave it out"):
        open_clips(DataConfig(name="hub", root=str(tmp_path), lists=str(tmp_path)))
