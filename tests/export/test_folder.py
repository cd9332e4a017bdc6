"""The exported folder: what it holds, that it equals the model, and that nothing half-written stays."""

import copy
import hashlib
import json

import numpy as np
import onnx
import pytest
import torch
from audiossl.transforms.frontend import config_of

from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.export import ExportOptions, check, export
from audiossl.export.graph import sample_waves
from audiossl.export.onnx_file import Session


def test_the_folder_says_what_it_holds(exported):
    folder, returned = exported
    config = json.loads((folder / "config.json").read_text())
    assert config == json.loads(json.dumps(returned))
    assert (config["sample_rate"], config["clip_s"], config["output"]) == (8000, 0.5, "scores")
    assert (config["labels"], config["dim"], config["unknown_below"]) == (["no", "up", "yes"], 3, 0.1)
    assert config["frontend"]["type"] == "mel"
    for name, digest in config["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert {path.name for path in folder.iterdir()} == {*config["sha256"], "config.json", "README.md"}
    card = (folder / "README.md").read_text()
    assert "8000 Hz" in card
    assert "no, up, yes" in card
    assert "accuracy" in card


def test_the_graph_is_plain_onnx_of_the_opset(exported):
    folder, config = exported
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model)
    assert [(item.domain, item.version) for item in model.opset_import if item.domain == ""] == [("", config["opset"])]
    assert {node.domain for node in model.graph.node} == {""}
    (wave,), (scores,) = model.graph.input, model.graph.output
    assert (wave.name, scores.name) == ("wave", "scores")
    assert [d.dim_param for d in wave.type.tensor_type.shape.dim] == ["batch", "samples"]


@pytest.mark.parametrize(("n_clips", "n_samples"), [(1, 1), (3, 600), (7, 4000), (2, 30_001)])
@torch.no_grad()
def test_the_graph_gives_what_the_model_gives(exported, small_classifier, n_clips, n_samples):
    waves = sample_waves(8000, n_samples, n_clips, seed=n_samples)
    found = Session(exported[0] / "model.onnx")(waves.numpy())
    np.testing.assert_allclose(found, small_classifier(waves).numpy(), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_program_of_torch_export_gives_the_same(exported, small_classifier):
    folder, config = exported
    program = torch.export.load(folder / "model.pt2").module(check_guards=False)
    for n_samples in (config["pt2"]["shortest_samples"], 4000, 9000):
        waves = sample_waves(8000, n_samples, 3)
        torch.testing.assert_close(program(waves), small_classifier(waves), rtol=0, atol=1e-4)


def test_eight_bits_are_smaller_and_close(exported):
    folder, config = exported
    found = config["int8"]
    assert found["bytes_int8"] == (folder / "model.int8.onnx").stat().st_size < 0.6 * found["bytes_float"]
    assert found["cosine_mean"] > 0.99
    assert 0.0 <= found["accuracy_int8"] <= 1.0
    waves = sample_waves(8000, 4000, 2).numpy()
    full, small = (Session(folder / name)(waves) for name in ("model.onnx", "model.int8.onnx"))
    assert not np.array_equal(full, small)  # it was quantised
    assert np.abs(full - small).max() < 0.2 * np.abs(full).max()


def test_the_front_end_stays_in_float(exported):
    graph = onnx.load(exported[0] / "model.int8.onnx").graph
    quantised = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")]
    assert quantised
    first = [index for index, node in enumerate(graph.node) if node.op_type == "Log"]  # the end of the front end
    assert all(list(graph.node).index(node) > first[0] for node in quantised)


def test_without_clips_eight_bits_have_no_accuracy(small_encoder, tmp_path):
    config = export(small_encoder, tmp_path / "new", ExportOptions(int8=True, opset=18))
    assert (config["output"], config["labels"], config["dim"], config["opset"]) == ("embedding", [], 64, 18)
    assert "accuracy_int8" not in config["int8"]
    assert config["int8"]["cosine_mean"] > 0.99


def test_a_classifier_goes_into_eight_bits_without_clips(small_classifier, tmp_path):
    """Its head's weights are turned, of which no note of their shapes must tell (torch before 2.14 leaves some)."""
    config = export(small_classifier, tmp_path / "new", ExportOptions(int8=True))
    assert config["int8"]["cosine_mean"] > 0.99
    graph = onnx.load(tmp_path / "new" / "model.onnx").graph
    assert not {item.name for item in graph.initializer} & {item.name for item in graph.value_info}


def test_a_difference_is_refused_and_nothing_is_left(small_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"model\.onnx differs from the model by .* nothing was written"):
        export(small_encoder, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_nan_is_refused():
    waves = iter([torch.zeros(1, 10)])
    with pytest.raises(UserError, match="not all finite"):
        check.largest_difference(torch.nn.Identity(), lambda wave: wave * np.nan, waves)


def test_differences_are_measured_against_large_numbers():
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, 1000.0)
    waves = iter([torch.ones(1, 1)])
    found = check.largest_difference(model, lambda wave: model(torch.from_numpy(wave)).detach().numpy() + 0.01, waves)
    assert found == pytest.approx(1e-5, rel=0.01)


@pytest.mark.parametrize("opset", [9, 17, 99])
def test_an_opset_that_cannot_be_written_is_refused(small_encoder, tmp_path, opset):
    with pytest.raises(UserError, match=f"--opset {opset} cannot be written: give one from 18"):
        export(small_encoder, tmp_path / "new", ExportOptions(opset=opset))


def test_other_folders_are_left_alone(small_encoder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds files but no model\.onnx"):
        export(small_encoder, tmp_path)
    with pytest.raises(UserError, match="is a file"):
        export(small_encoder, tmp_path / "notes.txt")


def test_the_model_stays_in_training(small_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "TOLERANCE", -1.0)
    encoder = copy.deepcopy(small_encoder).train()
    with pytest.raises(UserError):
        export(encoder, tmp_path / "new")
    assert all(module.training for module in encoder.modules())


def test_a_module_without_a_front_end_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no front end"):
        export(torch.nn.Linear(3, 3), tmp_path / "new")


def test_a_network_that_cannot_be_followed_is_refused(small_encoder, tmp_path):
    class Asks(torch.nn.Module):
        encoder = small_encoder

        def forward(self, wave):
            return self.encoder(wave) if float(wave.sum()) > 0 else self.encoder(-wave)

    with pytest.raises(UserError, match="cannot be exported for waves of every length"):
        export(Asks(), tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_on_a_length_is_refused():
    def fails(wave):
        raise RuntimeError("axis 1\nand more")

    with pytest.raises(UserError, match=r"cannot take waves \(1, 10\) \(axis 1\)"):
        check.largest_difference(torch.nn.Identity(), fails, iter([torch.zeros(1, 10)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "pool"), [("resnet10", "time_mean"), ("swin_micro", "freq_mean"), ("vit_tiny", "mean")]
)
def test_other_poolings_and_a_transformer(backbone, pool, tmp_path):
    from audiossl.backbones import BackboneConfig

    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig(backbone, pool=pool))).eval()
    assert export(encoder, tmp_path / "new")["largest_difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet10", "swin_micro", "audiontt_2020"])
@pytest.mark.parametrize("kind", ["mel", "stft", "cqt", "cwt"])
@torch.no_grad()
def test_every_front_end_with_every_network(kind, backbone, tmp_path, speech_commands_9w):
    from audiossl.transforms import Normalize, build_frontend

    from audiossl import audio
    from audiossl.backbones import BackboneConfig

    clips = [audio.load(path, 16000)[0] for path in audio.find_audio(speech_commands_9w)[::500]]
    config = config_of(kind, {})
    batch = torch.stack([torch.from_numpy(clip) for clip in clips if len(clip) == 16000])
    encoder = AudioEncoder.build(
        EncoderConfig(config, BackboneConfig(backbone)), Normalize.measure(build_frontend(config), [batch])
    ).eval()
    assert export(encoder, tmp_path / "new", ExportOptions(clips=clips))["largest_difference"] < 1e-4
    session = Session(tmp_path / "new" / "model.onnx")
    for n_samples in (1, 700, 9_000, 16_000, 30_123):
        waves = batch.flatten()[: 3 * n_samples].unflatten(0, (3, n_samples))
        np.testing.assert_allclose(session(waves.numpy()), encoder(waves).numpy(), rtol=0, atol=1e-4)
