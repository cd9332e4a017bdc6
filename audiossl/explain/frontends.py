"""One clip through every registered front end: its picture, its settings, and what it costs on this machine."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from audiossl.errors import UserError
from audiossl.explain.sound import Sound
from audiossl.explain.views import axis_of
from audiossl.run.pictures import Picture
from audiossl.transforms import FrontEnd, FrontEndConfig, build_frontend

REFERENCE = "mel"  # what costs are compared with
# Repeats of a front end: as many as fit, so that a page of slow ones comes in a minute.
BUDGET_S, MOST_REPEATS = 0.5, 15
# A first call that takes so long is not repeated: what it loads on the way no longer shows.
ENOUGH_S = 5.0
# Types whose rows differ so much from each other that little else would be seen.
DRAWN_BY_ROW, BY_ROW = ("mfcc",), "Each row is drawn at its own mean and deviation over the clip."


@dataclass(frozen=True)
class Look:
    """One front end on one clip, or the `problem` that there is no picture.

    pictures: one a channel. cost_s: seconds for the clip; times_reference: the same in parts of the mel picture's.
    note: how the pictures are drawn, where that is not as they are.
    """

    kind: str
    about: str
    settings: Mapping[str, object]
    pictures: tuple[Picture, ...] = ()
    hop_s: float = 0.0
    cost_s: float = 0.0
    times_reference: float | None = None
    note: str = ""
    problem: str = ""


def look_at_all(
    sound: Sound, kinds: Sequence[str], settings: Mapping[str, object], say: Callable[[str], None] = lambda _: None
) -> list[Look]:
    """The clip through each type of front end, in order; costs are compared with the mel picture's.

    settings: those that replace defaults, in every type that has them. say: told the name of each type.
    """
    looks = []
    for kind in kinds:
        say(kind)
        looks.append(look_at(sound, kind, settings))
    # Its own row is the reference where there is one: measured apart, on a busy machine, it would not be 1.
    mel = next((look for look in looks if look.kind == REFERENCE), None) or look_at(sound, REFERENCE, settings)
    if mel.problem:
        return looks
    return [look if look.problem else replace(look, times_reference=look.cost_s / mel.cost_s) for look in looks]


def look_at(sound: Sound, kind: str, settings: Mapping[str, object]) -> Look:
    """The clip through one type of front end; what stands in its way becomes the look's `problem`."""
    about = about_type(kind)
    try:
        config = configured(kind, settings)
        frontend = build_frontend(config)
        wave = torch.from_numpy(sound.wave)[None]
        start = time.perf_counter()
        with torch.no_grad():
            image = frontend(wave)[0].numpy()
        seconds = time.perf_counter() - start
        if seconds < ENOUGH_S:
            seconds = cost_s(frontend, wave)
    except UserError as error:
        return Look(kind, about, {}, problem=str(error))
    return Look(
        kind,
        about,
        {key: value for key, value in config.to_dict().items() if key != "type"},
        pictures_of(frontend, image, sound),
        frontend.hop_length / frontend.sample_rate,
        seconds,
        note=BY_ROW if kind in DRAWN_BY_ROW else "",
    )


def configured(kind: str, settings: Mapping[str, object]) -> FrontEndConfig:
    """A type's configuration with those of the settings that it has."""
    config_type = FrontEndConfig.get_choice_class(kind)
    names = {field.name for field in fields(config_type)}
    return config_type(**{key: value for key, value in settings.items() if key in names})


def about_type(kind: str) -> str:
    """The sentence that a type's configuration says of itself.

    >>> about_type("mel")
    "Mel bands; BYOL-A's 64 of them."
    """
    text = inspect.getdoc(FrontEndConfig.get_choice_class(kind)) or ""
    return " ".join(text.partition("\n\n")[0].split())


def pictures_of(frontend: FrontEnd, image: np.ndarray, sound: Sound) -> tuple[Picture, ...]:
    """A picture a channel of an image (C, F, T), with the front end's own frequencies and times."""
    if frontend.config.type in DRAWN_BY_ROW:
        image = (image - image.mean(-1, keepdims=True)) / (image.std(-1, keepdims=True) + 1e-9)
    rows, unit = axis_of(frontend)
    times = frontend.times(len(sound.wave)).double().numpy()
    half = (times[-1] - times[0]) / (len(times) - 1) / 2 if len(times) > 1 else sound.duration_s / 2
    return tuple(
        Picture(
            channel,
            f"{frontend.config.type}, channel {number + 1}" if len(image) > 1 else frontend.config.type,
            rows,
            start_s=sound.start_s + times[0] - half,
            end_s=sound.start_s + times[-1] + half,
            unit=unit,
        )
        for number, channel in enumerate(image)
    )


@torch.no_grad()
def cost_s(frontend: FrontEnd, wave: torch.Tensor) -> float:
    """Median seconds of a call, of as many as fit into `BUDGET_S`; the first counts only where no other fits."""

    def once(number: int) -> float:
        shifted = wave.roll(number + 1, -1)  # a wave of its own each time: emd remembers those it has seen
        start = time.perf_counter()
        frontend(shifted)
        return time.perf_counter() - start

    first = once(0)
    repeats = min(MOST_REPEATS, int(BUDGET_S / max(first, 1e-6)))
    return statistics.median(once(number) for number in range(1, repeats + 1)) if repeats else first
