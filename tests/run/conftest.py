import multiprocessing
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

TOY = Path(__file__).with_name("toy_recipe.py")


class Ended(NamedTuple):
    code: int  # negative: killed by that signal
    output: str


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Callable[..., Ended]:
    """Run the toy recipe with flags and `Trouble` in a new process; a fork server imports torch only once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    # Accelerate imports the last one when it prepares a model, which takes longer than the whole toy.
    context.set_forkserver_preload(["audiossl.run.session", "torch.utils.data", "runpy", "torch._dynamo"])
    outputs = tmp_path_factory.mktemp("output")
    count = iter(range(1_000_000))

    def run(*flags: object, **trouble: object) -> Ended:
        output = outputs / f"{next(count)}.txt"
        settings = {"ARGV": [str(flag) for flag in flags], "OUTPUT": str(output), "TROUBLE": trouble}
        process = context.Process(target=runpy.run_path, args=(str(TOY), settings, "__main__"))
        process.start()
        process.join(580)
        assert process.exitcode is not None, "the toy recipe hangs"
        return Ended(process.exitcode, output.read_text() if output.exists() else "")

    return run
