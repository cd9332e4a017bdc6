"""The models that come with audiossl: what each must have, that they load by name, and that they have learned."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open

import audiossl
from audiossl.data import cache_clips
from audiossl.data.config import DataConfig
from audiossl.data.spoken_words import SpokenWords, open_spoken_words
from audiossl.errors import UserError
from audiossl.installed import DEFAULT_MODEL, REGISTRY, installed_models
from audiossl.probes.features import accuracy, extract
from audiossl.probes.knn import knn_predict

MODELS = installed_models()
LARGEST_BYTES = 10e6  # every wheel carries them
# Words that none of them has heard, with sounds of all kinds.
UNHEARD = ("umbrella", "potato", "jazz", "sheriff", "chocolate", "hymn", "volcano", "queue")


@pytest.fixture(params=MODELS, scope="module")
def model(request):
    return MODELS[request.param]


def test_the_default_is_there_and_stands_first():
    assert next(iter(MODELS)) == DEFAULT_MODEL
    assert len(MODELS) >= 2


def test_weights_are_small_and_of_16_bits(model):
    assert model.weights.stat().st_size <= LARGEST_BYTES
    with safe_open(model.weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dictionary)
    kinds = {tensor.dtype for name, tensor in tensors.items() if tensor.ndim > 1 and not name.startswith("normalize.")}
    assert kinds == {torch.float16}


def test_the_card_says_what_a_user_must_know(model):
    text = model.card.read_text(encoding="utf-8")
    assert text.startswith(f"# {model.name}\n")
    for needed in ("CC BY 4.0", "Apache-2.0", "seed 0", "recipes/", "should not be used for", "random weights"):
        assert needed in text, needed
    assert re.search(r"at commits? [0-9a-f]{10,40}", text)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for row in ("this model", "same network, random weights", "log-mel mean + std", "BYOL-A"):
        assert any(row in line and re.search(r"\d\d\.\d", line) for line in rows), row
    assert "$" not in text


def test_a_sound_is_embedded_without_naming_a_model(tmp_path):
    wave = 0.1 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    soundfile.write(tmp_path / "clip.wav", wave, 16000)
    result = audiossl.featurize(tmp_path / "clip.wav", progress=False)
    assert result.meta["model"] == DEFAULT_MODEL
    assert result.embeddings.shape == (1, audiossl.load_model().dim)
    assert np.isfinite(result.embeddings).all()


def test_a_model_loads_by_name_and_says_the_same_twice(model):
    encoder = audiossl.load_model(model.name)
    assert not encoder.training
    assert encoder.dim == model.config["dim"]
    assert all(weight.dtype == torch.float32 for weight in encoder.parameters())
    wave = 0.1 * torch.randn(3, 16000)
    with torch.no_grad():
        whole, again = encoder(wave), audiossl.load_model(model.name)(wave)
        one = encoder(wave[1:2])
    assert torch.equal(whole, again)
    torch.testing.assert_close(one, whole[1:2], atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    pytest.importorskip("espeakng_loader", reason="the extra `speech` is not installed")
    config = DataConfig(cache=str(tmp_path_factory.mktemp("words")))
    return cache_clips(open_spoken_words(config, SpokenWords(99, 12, 0, 12, UNHEARD)), config)


def test_it_tells_words_apart_that_it_has_never_heard_by_voices_it_has_never_heard(model, words):
    def knn(encoder):
        table = extract(encoder, words)
        training = np.array(table.splits) == "training"
        x = (table.x - table.x[training].mean(0)) / (table.x[training].std(0) + 1e-6)
        predicted = knn_predict(x[training], table.label_ids[training], x[~training], k=5)
        return 100 * accuracy(predicted, table.label_ids[~training])

    encoder = audiossl.load_model(model.name)
    assert knn(encoder) >= knn(encoder.randomised(0)) + 15


def test_a_name_that_is_none_is_said_with_those_that_are():
    with pytest.raises(UserError, match=f"installed models are {', '.join(MODELS)}"):
        audiossl.load_model("wrods")


@pytest.mark.parametrize("content", ["{", "[]", '{"words": 1}', '{"words": {"about": "x"}}'])
def test_a_damaged_registry_is_said_in_a_sentence(tmp_path, content):
    (tmp_path / REGISTRY).write_text(content)
    with pytest.raises(UserError, match=r"registry\.json cannot be read .* install audiossl again"):
        installed_models(tmp_path)


def test_without_a_registry_there_are_none(tmp_path):
    assert installed_models(tmp_path) == {}


def test_models_as_json_name_card_and_default(capsys):
    from audiossl.cli import main

    assert main(["models", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == list(MODELS)
    assert [line["default"] for line in lines] == [True] + [False] * (len(MODELS) - 1)
