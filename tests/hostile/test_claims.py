"""Headers that promise what is not there: no room is made for it, and a sentence says so."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from fuzzing.models import small_encoder
from fuzzing.sounds import RATE, encoded
from fuzzing.tables import embeddings

from audiossl import audio, reading
from audiossl.data import DataConfig, open_clips
from audiossl.embeddings import load_embeddings
from audiossl.encoder import load_model
from audiossl.errors import UserError
from audiossl.probes.feature_file import read_features, write_features
from audiossl.reading_tensors import are_plain, read_torch
from audiossl.released import read_weights


def flac_of(n_samples):
    """A FLAC file whose header counts so many samples (36 bits of STREAMINFO)."""
    content = bytearray(encoded("flac"))
    facts = int.from_bytes(content[18:26], "big") & ~((1 << 36) - 1) | n_samples
    content[18:26] = facts.to_bytes(8, "big")
    return bytes(content)


@pytest.mark.parametrize("n_samples", [10**9, 2**36 - 1])
def test_a_flac_that_claims_gigabytes_is_refused(tmp_path, n_samples):
    (tmp_path / "a.flac").write_bytes(flac_of(n_samples))
    for read in (audio.info, audio.load):
        with pytest.raises(audio.AudioError, match=rf"a\.flac promises {n_samples} samples in \d+ bytes"):
            read(tmp_path / "a.flac")
    (clip,) = open_clips(DataConfig(name="folder", root=str(tmp_path)))  # not cut into millions
    assert clip.id == "a.flac"


def test_a_wav_that_claims_four_gigabytes_takes_what_is_there(tmp_path):
    content = bytearray(encoded("wav"))
    for place in (4, 40):
        content[place : place + 4] = struct.pack("<I", 2**32 - 1)
    (tmp_path / "a.wav").write_bytes(content)
    assert len(audio.load(tmp_path / "a.wav")[0]) == round(0.6 * RATE)
    content[40:44] = struct.pack("<I", 2**31 - 2**17)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(audio.AudioError, match="truncated: 9600 of 2147352576 bytes"):
        audio.load(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [1, 7, 2**31 - 1])
def test_a_rate_that_cannot_be_meant_is_refused(tmp_path, rate):
    content = bytearray(encoded("wav"))
    content[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(audio.AudioError, match=rf"a\.wav says {rate} Hz, which cannot become 16000 Hz"):
        audio.load(tmp_path / "a.wav", sample_rate=16000)
    audio.load(tmp_path / "a.wav")


def with_header(path, name, shape, dtype="<f4"):
    """An .npz whose array `name` says that it is this large, and has eight bytes."""
    member = io.BytesIO()
    np.lib.format.write_array_header_2_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(f"{name}.npy", member.getvalue() + bytes(8))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((10**12, 64), "<f4"), ((-1,), "<f4"), ((10,), "<U100000000"), ((2**62, 2**62), "<f8")]
)
def test_an_array_that_claims_terabytes_is_refused(tmp_path, shape, dtype):
    write_features(tmp_path / "x.npz", {}, "a", "b")
    with_header(tmp_path / "x.npz", "encoder", shape, dtype)
    with pytest.raises(UserError, match=r"x\.npz is not a file of features"):
        read_features(tmp_path / "x.npz", "a", "b")
    embeddings().to_npz(tmp_path / "e.npz")
    with_header(tmp_path / "e.npz", "more", shape, dtype)
    with pytest.raises(UserError, match=r"e\.npz cannot be read as embeddings \(more\.npy promises"):
        load_embeddings(tmp_path / "e.npz")


def test_an_array_file_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "UNPACKED_BYTES", 1000)
    np.savez_compressed(tmp_path / "x.npz", encoder=np.zeros(1 << 20), encoder_hash="a", clips_hash="b")
    with pytest.raises(ValueError, match=r"bytes unpack to \d+"):
        reading.read_arrays(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", encoder=np.zeros(1 << 20))
    assert reading.read_arrays(tmp_path / "x.npz")["encoder"].shape == (1 << 20,)


def test_text_that_is_none_is_refused(tmp_path):
    text = np.array(["a", "b"])
    text.view(np.uint32)[:] = 2**32 - 1  # beyond Unicode: Python cannot make a string of it
    np.savez(tmp_path / "x.npz", encoder_hash=text, clips_hash=text)
    with pytest.raises(UserError, match="is not a file of features"):
        read_features(tmp_path / "x.npz", "a", "b")


@pytest.mark.parametrize("shape", [[2**40, 2**20], [2**62, 8], [-1]])
def test_weights_that_claim_terabytes_are_refused(tmp_path, shape):
    small_encoder().save_pretrained(tmp_path / "encoder")
    header = {"normalize.mean": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    place = tmp_path / "encoder" / "model.safetensors"
    for content in (len(text).to_bytes(8, "little") + text + bytes(8), (2**62).to_bytes(8, "little") + text):
        place.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.safetensors is damaged or cut off"):
            load_model(tmp_path / "encoder")


def test_a_packed_checkpoint_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1 << 20)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as plain, zipfile.ZipFile(tmp_path / "y.pth", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    assert read_torch(tmp_path / "x.pth")["weight"].shape == (1 << 20,)
    with pytest.raises(ValueError, match=r"is packed, which torch\.save does not do"):
        read_torch(tmp_path / "y.pth")


def odd_tensors():
    """Tensors whose numbers are not there to be copied."""
    return {
        "meta": torch.ones(2, device="meta"),
        "sparse": torch.eye(2).to_sparse(),
        "rows": torch.eye(2).to_sparse_csr(),
    }


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("kind", ["meta", "sparse", "rows"])
def test_tensors_without_their_numbers_are_no_weights(tmp_path, kind):
    weights = {"weight": odd_tensors()[kind]}
    assert not are_plain(weights)
    torch.save({"teacher": weights}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth (holds no weights by name|is damaged)"):
        read_weights(tmp_path / "x.pth")
