"""An encoder as a step of scikit-learn's pipelines: recordings in, embeddings out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from audiossl.encoder import AudioEncoder, load_model
from audiossl.featurize import featurize
from audiossl.installed import DEFAULT_MODEL


class AudioEmbedder(TransformerMixin, BaseEstimator):
    """Transform a list of recordings (paths, or arrays with `sample_rate`) into embeddings (N, D) float32.

    Nothing is learnt in `fit`: the encoder is. Parameters as of `audiossl.featurize`; a model given by its folder is
    opened once for each fit, and pickles as the folder's name. Recordings that cannot be read raise `UserError`.

    Example:
        words = make_pipeline(AudioEmbedder("runs/first/encoder"), StandardScaler(), LogisticRegression())
        words.fit(paths, labels)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | AudioEncoder = DEFAULT_MODEL,
        sample_rate: int | None = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        pool: str = "mean",
        layers: Sequence[int] = (),
        normalize: str = "model",
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        self.model = model
        self.sample_rate = sample_rate
        self.window_s = window_s
        self.hop_s = hop_s
        self.pool = pool
        self.layers = layers
        self.normalize = normalize
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None) -> AudioEmbedder:
        """Open the encoder, and look at nothing else."""
        self.encoder_ = load_model(self.model) if isinstance(self.model, (str, os.PathLike)) else self.model
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed recordings, one row each."""
        check_is_fitted(self, "encoder_")
        settings = self.get_params()
        del settings["model"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="these recordings are far")  # said again for every fold
            found = featurize(X, self.encoder_, errors="raise", progress=False, **settings)
        self._n_features_out = found.embeddings.shape[1]
        return found.embeddings

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the numbers, embedding0 and so on, known once something was transformed."""
        check_is_fitted(self, "_n_features_out")
        return np.array([f"embedding{n}" for n in range(self._n_features_out)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` was called."""
        return hasattr(self, "encoder_")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out an encoder that the model's folder gives again."""
        state = dict(super().__getstate__())
        if isinstance(self.model, (str, os.PathLike)):
            state.pop("encoder_", None)
            state["opened_"] = hasattr(self, "encoder_")
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the encoder again where there was one."""
        opened = state.pop("opened_", False)
        super().__setstate__(state)
        if opened:
            self.fit(None)
