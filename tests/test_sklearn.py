"""scikit-learn's pipelines over recordings."""

import pickle

import numpy as np
import pytest
import soundfile
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from audiossl.errors import UserError
from audiossl.sklearn import AudioEmbedder

RATE = 16000


@pytest.fixture
def model(encoder_folder):
    return encoder_folder


def tones(n=24):
    """Waves of a second, low or high, and which."""
    generator = np.random.default_rng(0)
    labels = np.arange(n) % 2
    hz = np.where(labels, 2000, 300) * generator.uniform(0.9, 1.1, n)
    noise = 0.02 * generator.normal(size=(n, RATE))
    return list((0.2 * np.sin(2 * np.pi * hz[:, None] * np.arange(RATE) / RATE) + noise).astype(np.float32)), labels


def test_in_a_pipeline_and_a_grid_search(model):
    waves, labels = tones()
    pipeline = make_pipeline(AudioEmbedder(model, sample_rate=RATE), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"audioembedder__pool": ["mean", "max"], "logisticregression__C": [1.0]}, cv=2)
    search.fit(waves, labels)
    assert search.best_score_ > 0.9
    assert search.predict(waves[:2]).tolist() == [0, 1]


def test_paths_names_clone_and_pickle(model, tmp_path):
    waves, _ = tones(3)
    paths = [tmp_path / f"{n}.wav" for n in range(3)]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave, RATE, subtype="FLOAT")
    embedder = AudioEmbedder(model).fit(paths)
    x = embedder.transform(paths)
    assert x.dtype == np.float32
    assert embedder.get_feature_names_out().tolist() == [f"embedding{n}" for n in range(x.shape[1])]
    saved = pickle.dumps(embedder)
    assert len(saved) < 2000  # the folder's name, and not its weights
    assert np.array_equal(pickle.loads(saved).transform(paths), x)
    fresh = clone(embedder)
    with pytest.raises(NotFittedError):
        fresh.transform(paths)
    assert np.array_equal(fresh.fit_transform(paths), x)
    assert np.allclose(AudioEmbedder(model, sample_rate=RATE).fit_transform(waves), x, atol=1e-5)


def test_mistakes(model, tmp_path):
    with pytest.raises(UserError, match="no model 'none'"):
        AudioEmbedder("none").fit([])
    with pytest.raises(UserError, match=r"none\.wav does not exist"):
        AudioEmbedder(model).fit_transform([tmp_path / "none.wav"])


# Those of scikit-learn's own checks that give an estimator no table of numbers: a row of ten is no recording.
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("check", CHECKS)
def test_scikit_learns_own_checks(check):
    getattr(estimator_checks, check)("AudioEmbedder", AudioEmbedder())
