"""Four micro-batches of 64 clips are one batch of 256, where no batch norm looks across them."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from audiossl.transforms.views import Views
from torch.utils.data import DataLoader, Dataset

from audiossl.run.config import RunConfig
from audiossl.run.session import Session

spec = importlib.util.spec_from_file_location("ranks_script", Path(__file__).with_name("ranks_script.py"))
ranks_script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ranks_script)


@dataclass
class Config:
    run: RunConfig = field(default_factory=RunConfig)


class Pictures(Dataset):
    """Two views of every clip, always the same, since what is drawn depends on the micro-batch."""

    def __init__(self, n):
        self.views = torch.randn(n, 2, 1, 32, 32, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.views)

    def __getitem__(self, index):
        return self.views[index], index % 3


def train(kind, out, batch_size, accumulate):
    """Two optimiser steps; the state of the method, and the loss that was logged."""
    run = RunConfig(
        out=str(out), epochs=1, batch_size=batch_size, accumulate=accumulate, precision="fp32", trackers=[], quiet=True
    )
    session = Session(run, Config(run))
    method = ranks_script.build(kind)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    loader = DataLoader(Pictures(2 * batch_size * accumulate), batch_size, shuffle=True, drop_last=True)
    method, optimizer, loader = session.prepare(method.train(), optimizer, loader)
    for epoch in session.epochs():
        for step, (pictures, labels) in session.steps(loader, epoch):
            views = Views([pictures.transpose(0, 1).flatten(0, 1)], torch.zeros(2, len(labels), 4))
            with session.accumulate(method):
                out = method(views, *{"esvit": (0.04,), "supervised": (labels,)}.get(kind, ()))
                session.backward(out.loss)
                if session.synced:
                    session.clip(method.parameters(), 3.0)
                optimizer.step()
                optimizer.zero_grad()
            if session.synced and hasattr(method, "update_teacher"):
                method.update_teacher(0.5)
            session.log(step, {"loss": out.loss.detach()})
        session.end_epoch(epoch)
    session.finish()
    return method.state_dict(), session.recorder.history[-1]["loss"]


@pytest.mark.parametrize("batch_size", [4, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["esvit", "byol", "supervised"])
def test_four_micro_batches_are_one_batch(tmp_path, kind, batch_size):
    whole, loss = train(kind, tmp_path / "whole", 4 * batch_size, 1)
    parts, loss_of_parts = train(kind, tmp_path / "parts", batch_size, 4)
    assert loss_of_parts == pytest.approx(loss, rel=1e-5)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-5, rtol=1e-3, msg=name)
