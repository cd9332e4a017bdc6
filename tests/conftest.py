"""What all tests share: this checkout's package, a cache of their own, seeds, the real recordings."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def _origin(module: str) -> Path | None:
    """Return the file that `import module` would run, without importing torch on the way."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin).resolve() if spec and spec.origin else None


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test another installation; keep the tests out of the user's caches and off the network."""
    found = _origin("audiossl.transforms")
    if found != ROOT / "transforms" / "__init__.py":
        raise pytest.UsageError(
            f"audiossl.transforms would be {found or 'nothing'}, not the one of this checkout ({ROOT}): "
            "run `make test`, or `pip install -e '.[speech,dev]'` here."
        )
    # Set before torch, datasets or matplotlib are imported; the programs that tests start inherit it.
    cache = tempfile.mkdtemp(prefix="audiossl-tests-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    os.environ["AUDIOSSL_CACHE"] = cache
    os.environ["HF_HOME"] = os.path.join(cache, "huggingface")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["MPLBACKEND"] = "Agg"
    # The tensors of tests are small: more threads only wait for each other, most of all on a busy machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start each test from the same random state and with one thread, so that its order does not matter."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (libraries still draw from it)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ResNet-10 with random weights."""
    import torch

    from audiossl.backbones import BackboneConfig
    from audiossl.encoder import AudioEncoder, EncoderConfig

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "encoder"
    AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10"))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three "words" by six "speakers" in the layout of Speech Commands: low, high and rising tones in noise."""
    import soundfile

    rate = 8000
    root = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    t = np.arange(rate // 2) / rate
    for word, (begin, end) in {"low": (300, 300), "high": (2000, 2000), "rise": (400, 1600)}.items():
        (root / word).mkdir()
        for speaker in range(6):
            for take in range(5):
                pitch = np.cumsum(np.linspace(begin, end, len(t)) * (1 + 0.05 * speaker)) / rate
                wave = 0.3 * np.sin(2 * np.pi * pitch) + 0.05 * random.standard_normal(len(t))
                soundfile.write(root / word / f"{speaker:08x}_nohash_{take}.wav", wave, rate)
    for name, speaker in (("validation", 4), ("testing", 5)):
        lines = [f"{word}/{speaker:08x}_nohash_{take}.wav" for word in ("low", "high", "rise") for take in range(5)]
        (root / f"{name}_list.txt").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the project; the test is skipped where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is not there")
    return folder


def _data_set(shared: Path, name: str) -> Path:
    if not (shared / name).is_dir():
        pytest.skip(f"no real recordings: {shared / name} is not there")
    return shared / name


@pytest.fixture(scope="session")
def speech_commands_9w(shared_data: Path) -> Path:
    """Nine words of Speech Commands in its own layout."""
    return _data_set(shared_data, "speech-commands-9w")


@pytest.fixture(scope="session")
def speech_commands_35w_mini(shared_data: Path) -> Path:
    """A few clips of each of the 35 words."""
    return _data_set(shared_data, "speech-commands-35w-mini")


@pytest.fixture(scope="session")
def background_noise(shared_data: Path) -> Path:
    """The long noise recordings of Speech Commands."""
    return _data_set(shared_data, "speech-commands-background-noise")


@pytest.fixture(scope="session")
def official_lists(shared_data: Path) -> Path:
    """The official validation and testing lists of Speech Commands."""
    return _data_set(shared_data, "speech-commands-official-lists")


@pytest.fixture(scope="session")
def fsdd(shared_data: Path) -> Path:
    """Spoken digits at 8 kHz."""
    return _data_set(shared_data, "fsdd")


@pytest.fixture(scope="session")
def esc10(shared_data: Path) -> Path:
    """Environmental sounds of five seconds."""
    return _data_set(shared_data, "esc10")
