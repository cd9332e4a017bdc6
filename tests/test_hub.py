"""The Hub's manner, with a local folder in the Hub's place."""

import shutil

import pytest
import torch

import audiossl.hub
from audiossl import load_model
from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A Hub that keeps its repositories in a folder."""

    class Api:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, name, private, exist_ok):
            (tmp_path / "hub" / name).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}/commit/1"

    def download(name, revision=None, token=None, allow_patterns=None):
        assert allow_patterns == ["config.json", "model.safetensors", "README.md"]
        folder = tmp_path / "hub" / name
        if not folder.is_dir():
            raise OSError(f"404: {name}")
        return str(folder)

    monkeypatch.setattr(audiossl.hub, "HfApi", Api)
    monkeypatch.setattr(audiossl.hub, "snapshot_download", download)


def test_pushed_and_opened_again(remote, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10"))).eval()
    assert encoder.push_to_hub("whales/calls-resnet10") == "https://hub/whales/calls-resnet10/commit/1"
    wave = torch.rand(2, 16000) - 0.5
    with torch.inference_mode():
        for again in (AudioEncoder.from_pretrained("whales/calls-resnet10"), load_model("whales/calls-resnet10")):
            assert torch.equal(again(wave), encoder(wave))


def test_what_is_not_there_is_said(remote, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no folder 'whales/none', and no such model can be had .*404"):
        load_model("whales/none")
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match=r"there is no folder and no model 'runs/first'"):  # a path that was mistyped
        load_model("runs/first")
