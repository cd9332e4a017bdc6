"""The model card README.md of an encoder in Hugging Face's manner: front matter, use, facts of training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiossl.classifier import Classifier
    from audiossl.encoder import AudioEncoder


def model_card(encoder: AudioEncoder, name: str, extra: Mapping[str, Any]) -> str:
    """Model card of an encoder called `name`; `extra` holds the facts of its training."""
    frontend, backbone = encoder.config.frontend, encoder.config.backbone
    parameters = sum(p.numel() for p in encoder.backbone.parameters())
    hz = encoder.frontend.frequencies.tolist()
    hop_ms = frontend.hop_length / encoder.sample_rate * 1e3
    facts = {
        "Input": f"mono wave at {encoder.sample_rate} Hz; trained on clips of {encoder.clip_s:g} s",
        "Picture": f"{frontend.type}, {encoder.image_size[0]} bins x {encoder.image_size[1]} frames, "
        f"{hz[0]:.0f} to {hz[-1]:.0f} Hz, hop {hop_ms:.2f} ms",
        "Backbone": f"{backbone.name}, {parameters / 1e6:.2f} M parameters, pooling {backbone.pool}",
        "Embedding": f"{encoder.dim} numbers a clip; regions of {encoder.backbone.dim}",
        **_bag(encoder),
        **extra,
    }
    rows = "\n".join(f"| {key} | {_one_line(value)} |" for key, value in facts.items())
    return f"""---
library_name: audiossl
pipeline_tag: feature-extraction
tags:
- audio
- audio-embeddings
- {backbone.name.removeprefix("timm/")}
---

# {name}

An audio encoder of [audiossl](https://pypi.org/project/audiossl-toolkit/): wave in, embedding out.

```python
import audiossl

encoder = audiossl.load_model("{name}")  # this folder
features = encoder(wave)  # wave (B, S) at {encoder.sample_rate} Hz -> (B, {encoder.dim})
```

| | |
|---|---|
{rows}
"""


def classifier_card(classifier: Classifier, name: str, extra: Mapping[str, Any]) -> str:
    """Model card of a classifier called `name`; `extra` holds the facts of its training and its scores."""
    shown = classifier.labels[:50] + ["..."] * (len(classifier.labels) > 50)
    kind = "any of them, or none" if classifier.multi_label else "one of them"
    facts = {
        "Input": f"mono wave at {classifier.sample_rate} Hz; trained on clips of {classifier.clip_s:g} s",
        "Labels": f"{len(classifier.labels)}, a sound has {kind}: {', '.join(shown)}",
        "Unknown": f"below a probability of {classifier.unknown_below:.3f}" if classifier.unknown_below else "never",
        **extra,
    }
    rows = "\n".join(f"| {key} | {_one_line(value)} |" for key, value in facts.items())
    return f"""---
library_name: audiossl
pipeline_tag: audio-classification
tags:
- audio
---

# {name}

A classifier of sounds by [audiossl](https://pypi.org/project/audiossl-toolkit/).

```python
import audiossl

classifier = audiossl.load_classifier("{name}")  # this folder
print(classifier.predict("a_clip.wav"))
```

| | |
|---|---|
{rows}
"""


def _bag(encoder: AudioEncoder) -> dict[str, str]:
    """How a clip is put together, where it is a bag of patches."""
    bag, patches = encoder.config.bag, encoder.config.patches
    if bag is None:
        return {}
    return {"Clip": f"{bag.n_patches} patches of {patches.patch_s:g} s, the {bag.output} of each, pooling {bag.pool}"}


def _one_line(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("\n", " ").replace("|", "\\|")
