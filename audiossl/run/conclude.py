"""The end of a run: the encoder that is kept, what it is worth, and the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from audiossl import __version__
from audiossl.data.cached import CachedClips
from audiossl.encoder import AudioEncoder
from audiossl.probes.config import ProbeTableConfig
from audiossl.probes.features import why_no_probe
from audiossl.probes.table import ALL_COLUMNS, QUICK_COLUMNS, ProbeTable, probe_table
from audiossl.run import files
from audiossl.run.pictures import Box, Picture
from audiossl.run.report import write_report
from audiossl.run.session import Session
from audiossl.transforms.views import MultiCrop


def conclude(
    session: Session, encoder: AudioEncoder, views: MultiCrop, clips: CachedClips, probe: ProbeTableConfig
) -> None:
    """Save the encoder, probe it where there are labels, write report.html, and print what came out."""
    encoder.eval()
    folder = session.out / files.ENCODER
    encoder.save_pretrained(folder, extra=training_facts(session, clips))
    table = None
    if reason := why_no_probe(clips):
        session.say(f"no table of scores: {reason}")
    else:
        table = probe_table(
            encoder,
            clips,
            random_seeds=probe.random_seeds,
            columns=QUICK_COLUMNS if probe.quick else ALL_COLUMNS,
            say=lambda text: session.say(f"probing: {text}"),
        )
    page = write_report(
        session.out,
        scores=table,
        views=example_pictures(encoder, views, clips.split("training")),
        warnings=_skipped(clips),
    )
    session.say(_summary(table, folder, page))


def training_facts(session: Session, clips: CachedClips) -> dict[str, Any]:
    """What the model card says of the training."""
    training = clips.split("training")
    last = session.recorder.history[-1] if session.recorder.history else {}
    return {
        "Trained on": f"{len(training)} clips of {clips.name} ({clips.split_rule.rstrip('.')}), without labels",
        "Length": f"{session.run.epochs} epochs, {last.get('step', 0)} steps, seed {session.run.seed}",
        "Precision": session.precision,
        "audiossl": __version__,
    }


@torch.no_grad()
def example_pictures(
    encoder: AudioEncoder, views: MultiCrop, clips: CachedClips, n_clips: int = 4, n_views: int = 4
) -> list[Picture]:
    """A few clips as pictures, each with boxes where views were cut, and those views behind it.

    The views are drawn as in training, from clips spread over the set, always the same ones.
    """
    chosen = clips.subset(np.linspace(0, len(clips) - 1, min(n_clips, len(clips))).round().astype(int))
    device = encoder.normalize.mean.device
    wave = torch.from_numpy(np.asarray(chosen.waves[:])).to(device)
    image = encoder.image(wave)
    drawn = views(image, torch.Generator().manual_seed(0))
    singles = [view for group in drawn.images for view in group.split(len(chosen))]
    hz = encoder.frontend.frequencies.cpu().double().numpy()
    pictures = []
    for b, name in enumerate(chosen.ids):
        boxes = [drawn.boxes[v, b].tolist() for v in range(min(n_views, len(singles)))]
        in_hz = [(start, end, _hz(hz, np.array([low, high]))) for start, end, low, high in boxes]
        pictures.append(
            Picture(
                image[b, 0].cpu().numpy(),
                f"the clip {name}",
                hz,
                end_s=encoder.clip_s,
                boxes=tuple(
                    Box(start, end, band[0], band[1], label=str(v + 1), local=v >= 2)
                    for v, (start, end, band) in enumerate(in_hz)
                ),
                clip=name,
            )
        )
        for v, (start, end, low, high) in enumerate(boxes):
            view = singles[v][b, 0].cpu().numpy()
            rows = low + (high - low) * (np.arange(len(view)) + 0.5) / len(view)
            kind = "global" if v < 2 else "local"
            pictures.append(Picture(view, f"view {v + 1}, {kind}", _hz(hz, rows), start_s=start, end_s=end, clip=name))
    return pictures


def _hz(frequencies: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Hz at places of the band, where 0 and 1 are the edges of its first and last bin; straight on beyond them."""
    n = len(frequencies)
    bins = np.arange(-n, 2 * n)
    low, high = frequencies[1] - frequencies[0], frequencies[-1] - frequencies[-2]
    beyond = np.concatenate(
        [frequencies[0] + low * bins[:n], frequencies, frequencies[-1] + high * (bins[2 * n :] - n + 1)]
    )
    return np.interp(place * n - 0.5, bins, beyond)


def _skipped(clips: CachedClips) -> list[str]:
    if not clips.skipped:
        return []
    names = ", ".join(name for name, _ in clips.skipped[:5])
    more = f" and {len(clips.skipped) - 5} more" if len(clips.skipped) > 5 else ""
    return [f"{len(clips.skipped)} clips could not be read and were left out: {names}{more}."]


def _summary(table: ProbeTable | None, folder: Any, page: Any) -> str:
    lines = ["", table.markdown(), ""] if table is not None else [""]
    return "\n".join(
        [
            *lines,
            f"encoder  {folder}",
            f"report   {page.resolve()}",
            f"next     audiossl featurize YOUR_FOLDER --model {folder} -o embeddings.npz",
        ]
    )
