import pytest
import torch
from audiossl.transforms import MelConfig, Normalize

from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="session")
def small_encoder():
    """A cut ResNet over small pictures: quick to export."""
    torch.manual_seed(0)
    backbone = BackboneConfig("resnet10_half", stages=2)
    config = EncoderConfig(
        MelConfig(sample_rate=8000, n_fft=256, win_length=256, n_bins=32, f_max=3900.0), backbone, 0.5
    )
    return AudioEncoder.build(config, Normalize(-8.0, 3.0)).eval()


@pytest.fixture(scope="session")
def small_classifier(small_encoder):
    from audiossl.classifier import Classifier
    from audiossl.heads import ClassifierHead

    torch.manual_seed(0)
    return Classifier(
        small_encoder, ClassifierHead(small_encoder.dim, 3), ["no", "up", "yes"], unknown_below=0.1
    ).eval()


@pytest.fixture(scope="session")
def clips():
    generator = torch.Generator().manual_seed(1)
    return [
        (0.3 * torch.rand(1, generator=generator) * torch.randn(4000 + 50 * n, generator=generator))
        .clamp(-1, 1)
        .numpy()
        for n in range(12)
    ]


@pytest.fixture(scope="session")
def exported(tmp_path_factory, small_classifier, clips):
    """The folder of the classifier with everything in it, and what the export returned."""
    from audiossl.export import ExportOptions, export

    folder = tmp_path_factory.mktemp("export") / "words"
    answers = [["no", "up", "yes"][n % 3] for n in range(len(clips))]
    return folder, export(small_classifier, folder, ExportOptions(True, True, clips=clips, answers=answers))
