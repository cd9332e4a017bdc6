"""Two and four processes are one process on the joined batch: logs, gradients, centres, teacher, weights."""

import multiprocessing
import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("ranks_script.py")
METHODS = ("esvit", "esvit_sinkhorn", "byol", "contrastive", "emp_ssl", "supervised")
# Statistics over the clips that a process has, for people: those of few clips are others.
OF_OWN_CLIPS = {"projection_std", "effective_rank"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What `processes` processes make of a method, by (method, processes)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["audiossl.methods.esvit", "torch._dynamo", "runpy"])
    folder = tmp_path_factory.mktemp("ranks")
    known = {}

    def get(kind, processes):
        if (kind, processes) not in known:
            name = f"{kind}-{processes}"
            given = {"kind": kind, "processes": processes, "out": str(folder / name)}
            started = []
            for rank in range(processes):
                own = {**given, "rank": rank, "rendezvous": str(folder / f"{name}.meet")}
                started.append(context.Process(target=runpy.run_path, args=(str(SCRIPT), {"GIVEN": own}, "__main__")))
                started[-1].start()
            for process in started:
                process.join(240)
            assert [process.exitcode for process in started] == [0] * processes
            known[kind, processes] = torch.load(folder / name)
        return known[kind, processes]

    return get


@pytest.mark.distributed
@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.slow), 4])  # tests/methods have two as well
@pytest.mark.parametrize("kind", METHODS)
def test_many_ranks_are_one_process(trained, kind, processes):
    one, many = trained(kind, 1), trained(kind, processes)
    for step, (wanted, found) in enumerate(zip(one["logs"], many["logs"], strict=True)):
        assert wanted.keys() == found.keys()
        for name in wanted.keys() - OF_OWN_CLIPS:
            torch.testing.assert_close(found[name], wanted[name], atol=2e-4, rtol=1e-4, msg=f"{name}, step {step}")
    largest = one["gradient"].abs().max()
    assert (many["gradient"] - one["gradient"]).abs().max() < 1e-4 * largest
    for name, value in one["state"].items():
        torch.testing.assert_close(many["state"][name], value, atol=1e-5, rtol=1e-3, msg=name)


def test_a_teacher_and_a_centre_have_moved(trained):
    state = trained("esvit", 1)["state"]
    assert state["centre.centre"].abs().max() > 0
    name = "head.mlp.0.bias"
    assert not torch.equal(state[f"teacher.{name}"], state[f"student.{name}"])
