"""The encoder: same numbers after saving, from any place and in any batch; damaged folders are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from audiossl.transforms import LeafConfig, MelConfig, Normalize, StackConfig, build_frontend
from audiossl.transforms.config import fingerprint_of
from safetensors.torch import load_file, save_file

import audiossl
from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError

WAVES = 0.1 * torch.randn(64, 4000, generator=torch.Generator().manual_seed(0))


def build(name: str = "resnet10", **changes) -> AudioEncoder:
    torch.manual_seed(0)
    config = EncoderConfig(MelConfig(**changes), BackboneConfig(name), clip_s=0.25)
    return AudioEncoder.build(config, Normalize(-9.0, 4.0)).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build().save_pretrained(tmp_path / "encoder", extra={"method": "esvit", "epochs": 3})
    return tmp_path / "encoder"


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **changes}))


def test_shapes_and_facts():
    encoder = build("swin_micro")
    assert (encoder.sample_rate, encoder.clip_s, encoder.n_samples, encoder.dim) == (16000, 0.25, 4000, 256)
    assert encoder.image_size == (64, 24)
    with torch.no_grad():
        for n_samples in (1, 3999, 4000, 20000):
            assert encoder(torch.zeros(1, n_samples)).shape == (1, 256)


@pytest.mark.parametrize("name", ["resnet10", "swin_micro", "vit_tiny"])
def test_one_clip_equals_sixty_four(name):
    encoder = build(name)
    with torch.no_grad():
        together = encoder(WAVES)
        alone = torch.cat([encoder(wave[None]) for wave in WAVES[:8]])
    assert (together[:8] - alone).abs().max() < 1e-5


def test_int16_and_floats_and_silence():
    encoder = build()
    whole = (WAVES[:4] * 32768).round().to(torch.int16)
    with torch.no_grad():
        assert torch.equal(encoder(whole), encoder(whole.float() / 32768))
        assert encoder(torch.zeros(2, 4000, dtype=torch.int16)).isfinite().all()
    for wrong in (torch.zeros(4000), torch.zeros(1, 4000, dtype=torch.int32), torch.zeros(1, 0)):
        with pytest.raises(UserError, match="wave"):
            encoder(wrong)


def test_features_are_float32_under_autocast():
    encoder = build()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(WAVES[:2]).dtype == torch.float32
        assert encoder.patches(WAVES[:2]).patches.dtype == torch.float32


def test_patches_know_where_they_are():
    encoder = build("swin_micro")
    patches = encoder.patches(torch.zeros(1, 16000))
    assert patches.grid == (4, 6)
    assert patches.patches.shape == (1, 24, 256)
    # Cells of 16 frames: the first holds frames 0 to 15, whose middle is at 7.5 hops.
    expected = [(16 * i + 7.5) * 167 / 16000 for i in range(6)]
    assert patches.centres_s.tolist() == pytest.approx(expected, abs=1e-5)
    hz = encoder.frontend.frequencies
    assert patches.centres_hz.tolist() == pytest.approx([float(hz[16 * i + 7 : 16 * i + 9].mean()) for i in range(4)])
    short = encoder.patches(torch.zeros(1, 100))
    assert short.centres_s.tolist() == [0.0]


def test_saved_and_opened_in_another_process_bit_for_bit(folder, tmp_path):
    encoder = build()
    torch.save(WAVES[:4], tmp_path / "waves.pt")
    code = (
        "import torch, audiossl; torch.set_num_threads(1);"
        f"encoder = audiossl.load_model({str(folder)!r}); waves = torch.load({str(tmp_path / 'waves.pt')!r});"
        "assert not encoder.training;"
        f"torch.save(encoder(waves).detach(), {str(tmp_path / 'features.pt')!r})"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=elsewhere, check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "features.pt"), encoder(WAVES[:4]))
    torch.set_num_threads(threads)


def test_folder_in_the_hugging_face_manner(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["extra"] == {"method": "esvit", "epochs": 3}
    assert config["backbone"]["name"] == "resnet10"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: audiossl\n")
    assert "| epochs | 3 |" in card


def test_facts_of_a_card_are_one_cell_each(tmp_path):
    build("resnet10").save_pretrained(tmp_path / "kept", extra={"words": "yes|no\nmaybe", "scores": {"knn": 90.5}})
    card = (tmp_path / "kept" / "README.md").read_text()
    assert r"| words | yes\|no maybe |" in card
    assert '| scores | {"knn": 90.5} |' in card


def test_opening_leaves_the_callers_draws_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    audiossl.load_model(folder)
    assert torch.equal(torch.rand(3), expected)


def test_overwriting_replaces_the_model_and_keeps_other_files(folder):
    (folder / "notes.txt").write_text("mine")
    build("swin_micro").save_pretrained(folder, card="# My card")
    assert audiossl.load_model(folder).dim == 256
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "README.md").read_text() == "# My card"
    assert [path.name for path in folder.parent.iterdir()] == ["encoder"]


def test_failed_writing_leaves_the_old_folder(folder, monkeypatch):
    from audiossl import encoder_files

    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoder_files, "save_file", full_disk)
    with pytest.raises(UserError, match="No space left"):
        build("swin_micro").save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["encoder"]


def test_other_peoples_folders_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds files"):
        build().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        build().save_pretrained(tmp_path / "thesis.txt")
    with pytest.raises(UserError, match="JSON"):
        build().save_pretrained(tmp_path / "encoder", extra={"tensor": torch.zeros(1)})


def rename_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["head.weight"] = tensors.pop("backbone.net.conv1.0.weight")
    save_file(tensors, folder / "model.safetensors")


def reshape_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["backbone.net.conv1.0.weight"] = tensors["backbone.net.conv1.0.weight"][:1].clone()
    save_file(tensors, folder / "model.safetensors")


def add_a_weight(folder: Path) -> None:
    save_file({**load_file(folder / "model.safetensors"), "head": torch.zeros(1)}, folder / "model.safetensors")


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def set_part(part: str, **changes):
    def change(folder: Path) -> None:
        edit(folder, **{part: {**json.loads((folder / "config.json").read_text())[part], **changes}})

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read as JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json holds no settings"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
            "does not describe an audiossl encoder",
        ),
        (lambda f: edit(f, format=99), "format 99"),
        (lambda f: edit(f, backbone=None), "no section 'backbone'"),
        (lambda f: edit(f, clip_s="long"), "clip_s='long'"),
        (set_part("frontend", n_bin=32), "frontend.n_bin .did you mean n_bins"),
        (set_part("frontend", n_bins="many"), "frontend.n_bins='many'"),
        (set_part("frontend", type="cqt2"), "frontend.type='cqt2'"),
        (set_part("frontend", f_max=9000.0), "config.json: f_max=9000"),
        (lambda f: edit(f, statistics_of="0123456789abcdef"), "config.json has statistics_of='0123456789abcdef', but"),
        (set_part("backbone", name="resnet18"), "model.safetensors lacks"),
        (reshape_a_weight, "backbone.net.conv1.0.weight of shape"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (cut_weights, "model.safetensors is damaged or cut off"),
        (rename_a_weight, "lacks 1 of .* backbone.net.conv1.0.weight"),
        (add_a_weight, "unknown 1 of .* such as head"),
    ],
)
def test_damaged_folders_are_refused_in_one_sentence(folder, damage, words):
    damage(folder)
    with pytest.raises(UserError, match=words) as caught:
        audiossl.load_model(folder)
    assert "\n" not in str(caught.value)


def test_wrong_places(folder, tmp_path):
    with pytest.raises(UserError, match="folder of a run: give its encoder"):
        audiossl.load_model(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        audiossl.load_model(folder / "config.json")
    with pytest.raises(UserError, match="no folder and no model 'nothing'"):
        audiossl.load_model("nothing")
    with pytest.raises(UserError, match="does not exist"):
        AudioEncoder.from_pretrained(tmp_path / "nowhere")


def test_randomised_repeats_by_seed_and_keeps_statistics():
    encoder = build()
    one, again, other = encoder.randomised(1), encoder.randomised(1), encoder.randomised(2)
    with torch.no_grad():
        assert torch.equal(one(WAVES[:2]), again(WAVES[:2]))
        assert not torch.equal(one(WAVES[:2]), other(WAVES[:2]))
    assert torch.equal(one.normalize.mean, encoder.normalize.mean)
    assert not one.training


def measured(**changes) -> AudioEncoder:
    config = EncoderConfig(MelConfig(**changes), BackboneConfig("resnet10"), clip_s=0.25)
    return AudioEncoder.build(config, Normalize.measure(build_frontend(config.frontend), [WAVES])).eval()


def test_statistics_stay_with_the_front_end_they_were_measured_with(tmp_path):
    encoder = measured()
    with pytest.raises(UserError, match=r"statistics belong to a front end of fingerprint .* \(mel\)"):
        AudioEncoder.build(EncoderConfig(MelConfig(n_fft=512, win_length=512)), encoder.normalize)
    encoder.save_pretrained(tmp_path / "e")
    assert audiossl.load_model(tmp_path / "e").normalize.statistics_of == MelConfig().fingerprint()
    assert encoder.randomised(0).normalize.statistics_of == MelConfig().fingerprint()
    set_part("frontend", f_min=50.0)(tmp_path / "e")
    with pytest.raises(UserError, match=r"e/config.json has statistics_of=.* section 'frontend'.* restore them"):
        audiossl.load_model(tmp_path / "e")


def test_a_setting_that_a_later_version_adds_does_not_part_an_encoder_from_its_statistics(tmp_path):
    measured().save_pretrained(tmp_path / "e")
    config = json.loads((tmp_path / "e/config.json").read_text())
    older = {key: value for key, value in config["frontend"].items() if key != "pad_mode"}  # as if it were new
    edit(tmp_path / "e", frontend=older, statistics_of=fingerprint_of(older))
    assert audiossl.load_model(tmp_path / "e").normalize.statistics_of == MelConfig().fingerprint()


def test_folders_that_do_not_name_the_statistics_front_end_open(folder):
    edit(folder, statistics_of=None)
    assert audiossl.load_model(folder).normalize.statistics_of is None


def test_a_learned_front_end_is_saved_with_its_filters(tmp_path):
    config = EncoderConfig(LeafConfig(compress="pcen"), BackboneConfig("resnet10"), clip_s=0.25)
    encoder = AudioEncoder.build(config, Normalize(0.5, 2.0)).eval()
    with torch.no_grad():
        encoder.frontend.centres *= 1.1
        encoder.save_pretrained(tmp_path / "e")
        assert torch.equal(audiossl.load_model(tmp_path / "e")(WAVES[:2]), encoder(WAVES[:2]))


def test_stacks_keep_their_list_of_types(tmp_path):
    config = EncoderConfig(StackConfig(types=["mel", "stft"]), BackboneConfig("resnet10"), clip_s=0.25)
    encoder = AudioEncoder.build(config, Normalize(torch.zeros(2, 1), torch.ones(2, 1))).eval()
    encoder.save_pretrained(tmp_path / "e")
    with torch.no_grad():
        assert torch.equal(audiossl.load_model(tmp_path / "e")(WAVES[:2]), encoder(WAVES[:2]))
    set_part("frontend", types="mel")(tmp_path / "e")
    with pytest.raises(UserError, match=r"frontend.types='mel'"):
        audiossl.load_model(tmp_path / "e")


def test_per_bin_statistics_and_trained_kernels_are_saved(tmp_path):
    config = EncoderConfig(MelConfig(backend="nnaudio", trainable=True), BackboneConfig("resnet10"), clip_s=0.25)
    encoder = AudioEncoder.build(config, Normalize(torch.linspace(-10, -5, 64), torch.ones(64))).eval()
    with torch.no_grad():
        encoder.frontend.filters += 0.01
        encoder.save_pretrained(tmp_path / "e")
        assert torch.equal(audiossl.load_model(tmp_path / "e")(WAVES[:2]), encoder(WAVES[:2]))
