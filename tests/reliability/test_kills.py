"""Killed at any moment, again and again, and resumed: the run ends as if nobody had touched it.

Each chain kills one run three times, by SIGKILL: at a random time, while a checkpoint is being written, and in the
last step. What each kill met is printed (`pytest -s`) and counted at the end.
"""

from __future__ import annotations

import collections
import contextlib
import random
import signal
import time

import pytest

WAIT_S = 300.0
met: collections.Counter[str] = collections.Counter()  # moments of all kills of this session


def half_written(out):
    """Checkpoints that are half written, by what makes each attempt another one."""
    found = set()
    for path in (out / "checkpoints").glob(".epoch-*.part"):
        with contextlib.suppress(FileNotFoundError):  # it has its name by now
            found.add((path.name, path.stat().st_ctime_ns))
    return found


def steps_done(out):
    metrics = out / "metrics.jsonl"
    return metrics.read_text().count('"kind": "step"') if metrics.exists() else 0


def kill_when(running, name, is_met, last_step):
    """SIGKILL as soon as `is_met` of the run; what the moment was in truth, or "too late" if the run was quicker."""
    end = time.monotonic() + WAIT_S
    before = half_written(running.out)
    while not is_met() and running.process.is_alive():
        assert time.monotonic() < end, f"{name} did not come"
        time.sleep(0.0005)
    running.process.kill()
    code = running.ended()
    if code != -signal.SIGKILL:
        assert code == 0, running.output.read_text()[-3000:]
        return "too late"
    if half_written(running.out) - before:
        return "in a checkpoint write"
    return "in the last step" if steps_done(running.out) >= last_step - 1 else "elsewhere"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_run_that_is_killed_three_times_ends_with_the_same_bytes(
    start, whole, assert_same_run, tmp_path, recipe, workers
):
    expected = whole(recipe)
    last_step = steps_done(expected)
    draws = random.Random(f"{recipe} {workers}")
    out = tmp_path / "killed"
    flags = ("--run.workers", workers, "--run.resume")

    def at_random():
        # By progress and not by the clock, which means another moment on every machine; then a little later.
        steps, later_s = draws.randrange(last_step), draws.uniform(0, 0.3)
        reached = None

        def is_met():
            nonlocal reached
            if reached is None and steps_done(out) >= steps:
                reached = time.monotonic()
            return reached is not None and time.monotonic() >= reached + later_s

        return is_met

    def in_a_write():
        begun, steps, stale = steps_done(out), draws.randrange(1, max(2, last_step // 2)), half_written(out)
        return lambda: steps_done(out) >= min(begun + steps, last_step - 1) and half_written(out) - stale

    moments = [("at random", at_random), ("in a checkpoint write", in_a_write)]
    moments.append(("in the last step", lambda: lambda: steps_done(out) >= last_step - 1))
    for name, moment in moments:
        found = kill_when(start(recipe, out, *flags), name, moment(), last_step)
        met[found] += 1
        print(f"{recipe}, {workers} workers: {name} -> {found}, {steps_done(out)} of {last_step} steps")
    running = start(recipe, out, *flags)
    assert running.ended() == 0, running.output.read_text()[-3000:]
    assert_same_run(out, expected)


@pytest.mark.slow
def test_at_least_fifty_kills_met_a_run(recipes):
    if sum(met.values()) < 3 * 3 * len(recipes):
        pytest.skip("only with all recipes before it")
    print(dict(met))
    assert sum(met.values()) - met["too late"] >= 50
    assert met["in a checkpoint write"] >= 6
    assert met["in the last step"] >= 6
