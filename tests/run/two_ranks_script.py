"""Started in two processes by test_two_ranks.py: writes what each rank saw as JSON."""

from __future__ import annotations

import atexit
import dataclasses
import importlib.util
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from audiossl.errors import UserError
from audiossl.run.config import RunConfig
from audiossl.run.session import Session

spec = importlib.util.spec_from_file_location("toy_recipe", Path(__file__).with_name("toy_recipe.py"))
toy = importlib.util.module_from_spec(spec)
sys.modules["toy_recipe"] = toy
spec.loader.exec_module(toy)


def run(
    config: Any,
    facts: dict[str, Any],
    stop_after: int | None = None,
    bad_on_rank_1: int | None = None,
    left_out: tuple[int, ...] = (),
) -> None:
    """The loop of a recipe, with trouble from outside.

    Args:
        config: of the toy.
        facts: what was seen, filled here.
        stop_after: leave behind so many micro-batches, as a killed run does.
        bad_on_rank_1: micro-batch of the first epoch whose loss is infinite on rank 1, though no gradient is.
        left_out: micro-batches of the first epoch that all ranks pass over.
    """
    session = Session(config.run, config)
    method = toy.Method()
    facts |= {"rank": session.rank, "processes": session.processes, "initial": toy.fingerprint(method)}
    optimizer = torch.optim.SGD(method.parameters(), lr=config.lr)
    loader = DataLoader(toy.Clips(config.clips), config.run.batch_size, shuffle=True, drop_last=True)
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    facts |= {"global_draw": torch.rand(()).item(), "python_draw": random.random()}
    facts |= {"length": len(loader), "total_steps": session.total_steps(loader), "seen": []}
    memory = nn.BatchNorm1d(1)  # counts batches, and remembers what each rank saw: part of no model
    session.keep(memory)
    session.resume()
    for epoch in session.epochs():
        for step, (x, ids) in session.steps(loader, epoch):
            if stop_after is not None and len(facts["seen"]) == stop_after:
                return
            if epoch == 0 and step.position in left_out:
                continue
            draw = torch.rand((), generator=step.generator).item()
            memory(ids[:, None].float())
            with session.accumulate(method):
                loss = method(x)
                if (epoch, session.rank, step.position) == (0, 1, bad_on_rank_1):
                    loss = loss + float("inf")
                session.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            session.log(step, {"loss": loss})
            facts["seen"].append([epoch, step.position, step.index, ids.tolist(), draw, loss.item()])
        session.end_epoch(epoch)
    # running statistics of BatchNorm follow each rank's own batches; weights are exchanged
    facts["final"] = [weight.tolist() for weight in session.unwrap(method).parameters()]
    facts["memory"] = [memory.running_mean.item(), memory.num_batches_tracked.item()]
    session.finish()


def gathered(session: Session) -> list[int]:
    """Ids of ten clips over two ranks in batches of four: the last batch is padded."""
    loader = session.accelerator.prepare(DataLoader(toy.Clips(10), 4))
    return [i for _, ids in loader for i in session.accelerator.gather_for_metrics(ids).tolist()]


def main(folder: Path) -> None:
    settings = RunConfig(
        out=str(folder / "whole"), epochs=2, batch_size=2, accumulate=2, log_steps=2, precision="fp32",
        trackers=[], checkpoint_minutes=1e-9,
    )  # fmt: skip
    config = toy.Config(clips=23, run=settings)
    facts: dict[str, Any] = {"whole": {}, "first": {}, "second": {}}
    run(config, facts["whole"])
    config.run = dataclasses.replace(settings, out=str(folder / "parts"))
    run(config, facts["first"], stop_after=3)
    config.run = dataclasses.replace(config.run, resume=True)
    run(config, facts["second"])
    facts |= {"skipped": {}, "passed": {}, "fatal": {}}
    config.run = dataclasses.replace(settings, out=str(folder / "skipped"), skip_not_finite=1)
    run(config, facts["skipped"], bad_on_rank_1=2)
    config.run = dataclasses.replace(settings, out=str(folder / "passed"))
    run(config, facts["passed"], left_out=(2, 3))
    config.run = dataclasses.replace(settings, out=str(folder / "fatal"))
    try:
        run(config, facts["fatal"], bad_on_rank_1=2)
    except (UserError, SystemExit) as error:
        facts["fatal"] |= {"error": type(error).__name__, "said": str(error)}
    config.run = dataclasses.replace(settings, out=str(folder / "gather"))
    facts["gathered"] = gathered(Session(config.run, config))
    try:
        Session(settings, config)  # the folder of the first run is in use
    except (UserError, SystemExit) as error:
        facts["refused"] = type(error).__name__
    rank = facts["whole"]["rank"]
    (folder / f"rank{rank}.json").write_text(json.dumps(facts))


def write_threads(folder: Path) -> None:
    """What the system calls the threads of this process that still live."""
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    (folder / f"rank{os.environ['RANK']}.threads.json").write_text(json.dumps(names))


if __name__ == "__main__":
    atexit.register(write_threads, Path(sys.argv[1]))  # what is registered first is done last
    main(Path(sys.argv[1]))
