"""The card README.md of an exported model: what it takes, what it gives, how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card(config: Mapping[str, Any], name: str) -> str:
    """The card of an export called `name`, of the contents of its config.json."""
    labels, frontend = config["labels"], config["frontend"]
    gives = f"scores (batch, {config['dim']}), one for each label" if labels else f"embedding (batch, {config['dim']})"
    rows = {
        "Input": f"wave (batch, samples), float32 in [-1, 1], mono at {config['sample_rate']} Hz, any batch and length",
        "Output": gives,
        "Clip": f"trained on {config['clip_s']:g} s",
        "Picture": f"{frontend['type']}, part of the graph",
        "Backbone": config["backbone"],
        "Opset": config["opset"],
        "Difference from the model in PyTorch": f"{config['largest_difference']:.1e} at most, on what was tried",
        **({"Labels": ", ".join(labels)} if labels else {}),
        **_int8(config.get("int8")),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    wanted = "a line for each window" if labels else "an embedding for each window"
    out = "" if labels else " -o embeddings.npz"
    return f"""# {name}

A model of audiossl as one ONNX graph, front end included. It needs onnxruntime and numpy; the program beside it also
needs soundfile and soxr. Neither needs torch or audiossl.

    python listen.py recording.wav{out}     # {wanted}
    arecord -t raw -f S16_LE -c 1 -r {config["sample_rate"]} | python listen.py -{out}

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
({config["output"]},) = session.run(None, {{"wave": wave}})  # wave (batch, samples) float32
```

| | |
|---|---|
{table}
"""


def _int8(found: Mapping[str, float] | None) -> dict[str, str]:
    """What eight bits cost and bring, where there are any."""
    if found is None:
        return {}
    text = (
        f"{found['bytes_int8'] / 1e6:.2f} MB for {found['bytes_float'] / 1e6:.2f} MB; {found['ms_int8']:.2f} ms a clip "
        f"for {found['ms_float']:.2f} ms where it was exported; cosine to float {found['cosine_mean']:.4f}, "
        f"{found['cosine_least']:.4f} at least"
    )
    if "accuracy_int8" in found:
        text += f"; accuracy {found['accuracy_int8']:.4f} for {found['accuracy_float']:.4f}"
    return {"model.int8.onnx": text}
