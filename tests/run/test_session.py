"""The session in one process: accumulation, clipping, precision, what it writes, what it refuses."""

import json
from dataclasses import dataclass, field

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from audiossl.config import load
from audiossl.errors import UserError
from audiossl.run import environment, gradients
from audiossl.run.config import RunConfig
from audiossl.run.seeds import mixed_seed, restore_rng, rng_state, seed_all, step_generator
from audiossl.run.session import Session


@dataclass
class Config:
    lr: float = 0.1
    run: RunConfig = field(default_factory=RunConfig)


def settings(out, **changes) -> Config:
    plain = {"precision": "fp32", "trackers": [], "epochs": 1, "batch_size": 4, "quiet": True}
    return Config(run=RunConfig(out=str(out), **{**plain, **changes}))


def clips(n=20) -> TensorDataset:
    return TensorDataset(torch.randn(n, 3, generator=torch.Generator().manual_seed(1)))


def train(config: Config, n=20, clip=None) -> tuple[nn.Module, list[int], Session]:
    """A linear method without batch statistics; gives it, the optimiser steps seen, and the session."""
    session = Session(config.run, config)
    method = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(method.parameters(), lr=config.lr)
    loader = DataLoader(clips(n), config.run.batch_size, shuffle=True, drop_last=True)
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    session.resume()
    indices = []
    for epoch in session.epochs():
        for step, (x,) in session.steps(loader, epoch):
            with session.accumulate(method):
                loss = method(x).square().mean()
                session.backward(loss)
                if clip and session.synced:
                    session.clip(method.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
            session.log(step, {"loss": loss})
            indices.append(step.index)
        session.end_epoch(epoch)
    session.finish()
    return session.unwrap(method), indices, session


def rows(out) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("n", [16, 20])
def test_accumulating_two_halves_is_one_whole_batch(tmp_path, n):
    whole, steps, _ = train(settings(tmp_path / "whole", epochs=2), n=n)
    halves, micro, _ = train(settings(tmp_path / "halves", epochs=2, batch_size=2, accumulate=2), n=n)
    assert micro == [index for index in steps for _ in range(2)]
    torch.testing.assert_close(whole.weight, halves.weight, rtol=1e-5, atol=1e-6)


def test_a_smaller_last_group_counts_by_its_own_mean(tmp_path):
    config = settings(tmp_path / "a", batch_size=2, accumulate=4)
    method, indices, session = train(config, n=12)  # 6 micro-batches: groups of 4 and 2
    assert indices == [0, 0, 0, 0, 1, 1]
    assert session.checkpoints.latest().name == "epoch-0001_batch-00000"
    # the same by hand, in the session's order of clips
    sampler = SeedableRandomSampler(range(12), data_seed=mixed_seed("order", 0) % 2**31)
    order = torch.tensor(list(sampler))
    seed_all(mixed_seed("weights", 0))
    byhand = nn.Linear(3, 2)
    for group in (order[:8], order[8:]):
        byhand.zero_grad()
        byhand(clips(12).tensors[0][group]).square().mean().backward()
        with torch.no_grad():
            for parameter in byhand.parameters():
                parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(method.weight, byhand.weight, rtol=1e-5, atol=1e-6)


def test_total_steps_is_known_beforehand(tmp_path):
    _, indices, session = train(settings(tmp_path, epochs=3, accumulate=2))
    assert session.total_steps(range(5)) == 3 * 3 == indices[-1] + 1


def test_same_seed_same_weights_other_seed_others(tmp_path):
    first, _, _ = train(settings(tmp_path / "a"))
    same, _, _ = train(settings(tmp_path / "b"))
    other, _, _ = train(settings(tmp_path / "c", seed=1))
    assert torch.equal(first.weight, same.weight)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_run_leaves(tmp_path, precision):
    out = tmp_path / "run"
    config = settings(out, epochs=2, precision=precision, trackers=["tensorboard"], log_steps=2)
    method, _, session = train(config, clip=1.0)
    assert method.weight.dtype == torch.float32
    assert session.precision == precision
    assert load(Config, out / "config.yaml") == config
    assert f"precision: {precision} (as --run.precision says)" in (out / "environment.txt").read_text()
    assert [(row["kind"], row["step"]) for row in rows(out)] == [
        ("step", 2), ("step", 4), ("epoch", 5), ("step", 6), ("step", 8), ("step", 10), ("epoch", 10),
    ]  # fmt: skip
    assert {"loss", "lr", "clips_per_second", "data_wait_percent", "memory_gb"} <= rows(out)[-1].keys()
    assert list((out / "tensorboard").rglob("events.*"))
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == ["epoch-0001_batch-00000", "epoch-0002_batch-00000"]
    assert not list(out.rglob("*.part"))


def test_config_of_a_resumed_run_does_not_ask_to_resume(tmp_path):
    config = settings(tmp_path / "run", resume=True)
    train(config)
    assert load(Config, tmp_path / "run/config.yaml").run.resume is False


def edit_position(out, **changes) -> None:
    path = next(iter(out.glob("checkpoints/*/position.json")))
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_resume_refuses_what_does_not_fit(tmp_path):
    train(settings(tmp_path))
    edit_position(tmp_path, processes=4)
    with pytest.raises(UserError, match=r"by 4 process\(es\) .* --num_processes 4"):
        train(settings(tmp_path, resume=True))
    edit_position(tmp_path, processes=1, epoch=0, batch=2)
    with pytest.raises(UserError, match=r"had 5 batches at the checkpoint and has 6 now"):
        train(settings(tmp_path, resume=True), n=24)
    session = Session(settings(tmp_path, resume=True).run, settings(tmp_path, resume=True))
    session.prepare(nn.Linear(3, 7))
    with pytest.raises(UserError, match="does not fit the model"):
        session.resume()


def test_unusable_folders_and_settings(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--run\.out .*file/run cannot be written"):
        train(settings(tmp_path / "file" / "run"))
    with pytest.raises(UserError, match=r"--run\.trackers nothing"):
        train(settings(tmp_path / "a", trackers=["nothing"]))
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError, match="is not empty"):
        train(settings(tmp_path))


def test_a_loader_that_keeps_an_incomplete_batch_is_refused(tmp_path):
    session = Session(settings(tmp_path).run, settings(tmp_path))
    loader = session.prepare(DataLoader(clips(), 3))
    with pytest.raises(ValueError, match="drop_last"):
        next(session.steps(loader, 0))


def test_monitors_are_due_every_so_often_and_at_the_end(tmp_path):
    config = settings(tmp_path, epochs=6, monitor_epochs=4)
    session = Session(config.run, config)
    assert [epoch for epoch in range(6) if session.monitor_due(epoch)] == [3, 5]


def gradients_of(*values) -> list[torch.Tensor]:
    parameters = [torch.zeros(len(value), requires_grad=True) for value in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor(value)
    return [*parameters, torch.zeros(2, requires_grad=True)]  # one without a gradient


def test_clip_all_together_is_torchs_own():
    ours, theirs = (gradients_of([3.0, 4.0], [12.0]) for _ in range(2))
    gradients.clip(ours, 2.0)
    nn.utils.clip_grad_norm_(theirs, 2.0)
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    assert ours[2].grad is None


def test_clip_each_tensor_by_itself():
    parameters = gradients_of([3.0, 4.0], [0.5])
    gradients.clip(parameters, 1.0, per_tensor=True)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.8]))
    assert parameters[1].grad.item() == 0.5
    gradients.clip([torch.zeros(1, requires_grad=True)], 1.0)  # nothing to clip


def test_finite_or_not_is_told_of_all_tensors_together():
    cpu = torch.device("cpu")
    good = [torch.ones(2, 3), torch.tensor(1e18), torch.tensor([7])]
    assert gradients.all_finite(good, cpu)
    assert gradients.all_finite([], cpu)
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert not gradients.all_finite([*good, torch.tensor([0.0, bad])], cpu)


def test_precision_follows_the_hardware():
    cpu = torch.device("cpu")
    assert environment.choose_precision("auto", cpu, frozenset({"avx512_bf16"}))[0] == "bf16"
    assert environment.choose_precision("auto", cpu, frozenset({"avx512f"}))[0] == "fp32"
    assert environment.choose_precision("fp32", cpu, frozenset({"amx_bf16"}))[0] == "fp32"
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        environment.choose_precision("fp16", cpu, frozenset())


def test_threads_of_the_launcher(monkeypatch):
    before = torch.get_num_threads()
    cpu = torch.device("cpu")
    monkeypatch.setattr(environment, "available_cores", lambda: 8)
    try:
        torch.set_num_threads(1)
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        assert environment.choose_threads(0, cpu, 1) == 1  # somebody's own wish
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        assert environment.choose_threads(0, cpu, 2) == 4
        torch.set_num_threads(1)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of four processes on two machines
        assert environment.choose_threads(0, cpu, 4) == 4
        assert environment.choose_threads(3, cpu, 2) == 3
        assert environment.choose_threads(0, cpu, 2) == 3
    finally:
        torch.set_num_threads(before)


def test_generators_follow_from_their_place_alone():
    def draw(*place) -> float:
        return torch.rand((), generator=step_generator(*place)).item()

    places = [(s, e, p, r) for s in (0, 1) for e in (0, 1) for p in (0, 1) for r in (0, 1)]
    assert len({draw(*place) for place in places}) == len(places)
    assert draw(3, 1, 4, 1) == draw(3, 1, 4, 1)


def test_random_states_come_back(tmp_path):
    import random

    import numpy as np

    def draws() -> list[float]:
        return [random.gauss(0, 1), np.random.randn(), torch.rand(()).item()]  # noqa: NPY002

    seed_all(5)
    draws()  # gauss leaves half a pair behind
    torch.save(rng_state(), tmp_path / "state.pt")
    expected = [draws(), draws()]
    seed_all(6)
    restore_rng(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draws(), draws()] == expected


def test_run_config_checks_its_numbers():
    for name, value in (("epochs", 0), ("keep", 0), ("seed", -1), ("checkpoint_minutes", 0), ("out", "")):
        with pytest.raises(UserError, match=rf"--run\.{name}"):
            RunConfig(**{name: value})
