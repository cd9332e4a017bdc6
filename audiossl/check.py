"""A self-check that anyone's encoder can be run through: what breaks quietly elsewhere is said here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5  # of the largest number of an embedding, between one clip and the same in a batch


@dataclass(frozen=True)
class Check:
    """One property: whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class CheckReport:
    """All properties; true when all hold."""

    checks: tuple[Check, ...]

    def __bool__(self) -> bool:
        """Whether every property holds."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        """One line a property."""
        return "\n".join(f"{'ok    ' if c.passed else 'FAILED'}  {c.name}: {c.found}" for c in self.checks)


def check_encoder(encoder: Any, embed: Callable[[Tensor], Tensor] | None = None, seed: int = 0) -> CheckReport:
    """Run an encoder, waves (B, S) to embeddings (B, D), through what everything here relies on.

    Args:
        encoder: a module with `sample_rate` in Hz, and if it has them `n_samples`, the length that it was trained on (a
            second otherwise), and `dim`. It is used as it is: put it in eval mode first.
        embed: how waves become embeddings, for an encoder of another interface; by default it is called.
        seed: of the noise that it hears.

    Never raises for what the encoder does: an exception is a property that does not hold.

    Example:
        report = audiossl.check_encoder(audiossl.load_model("runs/first/encoder"))
        print(report)
        model = somebodys_hear.load_model("weights.pt")  # a module of the HEAR interface
        audiossl.check_encoder(model, lambda wave: somebodys_hear.get_scene_embeddings(wave, model))
    """
    ear = _Ear(encoder, embed or encoder, seed)
    checks = []
    for name, check in (
        ("sample rate", ear.rate),
        ("shape and type", ear.shape),
        ("eval mode", ear.eval_mode),
        ("the same twice", ear.repeatable),
        ("a clip alone as in a batch", ear.batch),
        ("silence, full scale, one value", ear.finite),
        ("different sounds differ", ear.differ),
        ("int16 as floats", ear.int16),
        ("shorter and longer clips", ear.lengths),
        ("the input is left as it was", ear.untouched),
    ):
        checks.append(_run(name, check))
    return CheckReport(tuple(checks))


def _run(name: str, check: Callable[[], Iterator[tuple[bool, str]]]) -> Check:
    try:
        with torch.inference_mode():
            found = list(check())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return Check(name, all(passed for passed, _ in found), ", ".join(text for _, text in found))


class _Ear:
    """The properties, one a method: each yields whether a part of it holds, and what was found."""

    def __init__(self, encoder: Any, embed: Callable[[Tensor], Tensor], seed: int) -> None:
        self.encoder, self.embed, self.rate_hz = encoder, embed, _positive(encoder, "sample_rate") or 16000
        n = _positive(encoder, "n_samples") or self.rate_hz
        parameters = encoder.parameters() if isinstance(encoder, nn.Module) else ()
        device = next((p.device for p in parameters), torch.device("cpu"))
        self._noise = 0.1 * torch.randn(4, n, generator=torch.Generator().manual_seed(seed)).to(device)

    @property
    def noise(self) -> Tensor:
        """Four clips of noise, fresh each time: an encoder may write into what it is given."""
        return self._noise.clone()

    def rate(self) -> Iterator[tuple[bool, str]]:
        rate = getattr(self.encoder, "sample_rate", None)
        yield isinstance(rate, int) and rate > 0, f"{rate} Hz"

    def shape(self) -> Iterator[tuple[bool, str]]:
        x = self.embed(self.noise)
        yield x.ndim == 2 and len(x) == len(self.noise), f"{tuple(x.shape)} of {len(self.noise)} clips"
        yield x.dtype == torch.float32, str(x.dtype).removeprefix("torch.")
        yield x.device == self.noise.device, f"on {x.device}"
        dim = getattr(self.encoder, "dim", getattr(self.encoder, "scene_embedding_size", None))
        if dim is not None:
            yield x.shape[-1] == dim, f"dim {dim}"

    def eval_mode(self) -> Iterator[tuple[bool, str]]:
        training = getattr(self.encoder, "training", False)
        yield not training, "training" if training else "eval"

    def repeatable(self) -> Iterator[tuple[bool, str]]:
        yield self._near(self.embed(self.noise), self.embed(self.noise), 0.0)

    def batch(self) -> Iterator[tuple[bool, str]]:
        alone = torch.cat([self.embed(clip[None]) for clip in self.noise])
        yield self._near(self.embed(self.noise), alone, TOLERANCE)

    def finite(self) -> Iterator[tuple[bool, str]]:
        n = self.noise.shape[1]
        for name, wave in (
            ("silence", torch.zeros(n)),
            ("full scale", torch.ones(n).copysign(self.noise[0].cpu())),
            ("one value", torch.full((n,), 0.5)),
        ):
            x = self.embed(wave[None].to(self.noise))
            yield bool(x.isfinite().all()), f"{name} {'finite' if x.isfinite().all() else 'not finite'}"

    def differ(self) -> Iterator[tuple[bool, str]]:
        time = torch.arange(self.noise.shape[1]).to(self.noise) / self.rate_hz
        tone = 0.1 * torch.sin(2 * torch.pi * 440 * time)
        x = self.embed(torch.stack([tone, self.noise[0]]))
        gap = float((x[0] - x[1]).norm() / x.norm(dim=1).mean().clamp(min=1e-12))
        yield gap > 1e-3, f"a tone and noise are {gap:.2g} of their length apart"

    def int16(self) -> Iterator[tuple[bool, str]]:
        wave = (self.noise * 32768).round().clamp(-32768, 32767).to(torch.int16)
        yield self._near(self.embed(wave.float() / 32768), self.embed(wave), 1e-4)

    def lengths(self) -> Iterator[tuple[bool, str]]:
        n = self.noise.shape[1]
        for length in (1, n // 3, n + 1, 3 * n):
            x = self.embed(self.noise[:1].repeat(1, 4)[:, :length])
            good = x.shape == (1, self.embed(self.noise[:1]).shape[1]) and bool(x.isfinite().all())
            yield good, f"{length} samples {'ok' if good else f'give {tuple(x.shape)}'}"

    def untouched(self) -> Iterator[tuple[bool, str]]:
        given = torch.cat([self.noise, 2 * self.noise.sign()])  # above full scale too: some clamp in place
        before = given.clone()
        self.embed(given)
        same = torch.equal(before, given)
        yield same, "yes" if same else "changed in place"

    @staticmethod
    def _near(x: Tensor, y: Tensor, tolerance: float) -> tuple[bool, str]:
        gap = float((x - y).abs().max() / x.abs().max().clamp(min=1e-12))
        return gap <= tolerance, f"{gap:.1g} apart"


def _positive(encoder: Any, name: str) -> int | None:
    """A whole number above 0, or None where the encoder has none."""
    value = getattr(encoder, name, None)
    return value if isinstance(value, int) and value > 0 else None
