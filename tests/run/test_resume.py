"""A run that is killed and resumed must be the run that was never stopped: order, draws, weights, metrics."""

import json
import os
import signal
from pathlib import Path

import pytest

from audiossl.run.interrupt import StopRequest

TIMES = ("clips_per_second", "clips_per_cpu_second", "data_wait_percent", "memory_gb", "seconds")


def lines(path: Path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


def metrics(out: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in lines(out / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """Uninterrupted runs by (accumulate, workers): (lines of the record, metrics)."""
    known: dict = {}

    def get(accumulate: int, workers: int):
        if (accumulate, workers) not in known:
            folder = tmp_path_factory.mktemp("whole")
            flags = ("--run.accumulate", accumulate, "--run.workers", workers)
            ended = toy("--run.out", folder / "run", *flags, record=str(folder / "record"))
            assert ended.code == 0, ended.output
            known[accumulate, workers] = lines(folder / "record"), metrics(folder / "run")
        return known[accumulate, workers]

    return get


@pytest.mark.parametrize(("accumulate", "workers", "stop_at"), [(1, 0, 3), (2, 0, 9), (1, 2, 8), (2, 2, 4), (4, 0, 6)])
def test_killed_and_resumed_equals_uninterrupted(toy, whole, tmp_path, accumulate, workers, stop_at):
    record, expected_metrics = whole(accumulate, workers)
    run = ("--run.out", tmp_path / "run", "--run.accumulate", accumulate, "--run.workers", workers)
    record_file = str(tmp_path / "a")
    first = toy(*run, record=record_file, stop_at=stop_at)
    assert first.code == -signal.SIGKILL, first.output
    second = toy(*run, "--run.resume", record=record_file)
    assert second.code == 0, second.output
    parts = lines(tmp_path / "a")
    before, after = parts[: stop_at + 1], parts[stop_at + 1 :]
    assert before == record[: stop_at + 1]
    assert after == record[-len(after) :], "the resumed part differs"
    assert len(before) + len(after) >= len(record)
    assert metrics(tmp_path / "run") == expected_metrics


def test_whoever_reads_the_clips_the_run_is_the_same(whole):
    # The workers of a real loader live on from epoch to epoch, so that it draws from the global stream once.
    assert whole(1, 2) == whole(1, 0)


@pytest.mark.parametrize("call", [3, 7, 12, 19, 30])
def test_killed_while_a_checkpoint_is_written_equals_uninterrupted(toy, whole, tmp_path, call):
    record, expected_metrics = whole(1, 0)
    run = ("--run.out", tmp_path / "run")
    first = toy(*run, record=str(tmp_path / "a"), stop_in_write=call)
    assert first.code == -signal.SIGKILL, first.output
    second = toy(*run, "--run.resume", record=str(tmp_path / "a"))
    assert second.code == 0, second.output
    assert lines(tmp_path / "a")[-1] == record[-1]
    assert metrics(tmp_path / "run") == expected_metrics
    assert not list((tmp_path / "run/checkpoints").glob(".*"))


def test_sigterm_writes_a_checkpoint_and_says_so(toy, whole, tmp_path):
    record, expected_metrics = whole(2, 0)
    run = ("--run.out", tmp_path / "run", "--run.accumulate", 2, "--run.checkpoint_minutes", 100)
    record_file = str(tmp_path / "a")
    first = toy(*run, record=record_file, stop_at=2, stop_signal=int(signal.SIGTERM))
    assert first.code == 143, first.output
    assert "--run.resume" in first.output
    assert "Traceback" not in first.output
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["epoch-0000_batch-00004"]
    second = toy(*run, "--run.resume", record=record_file)
    assert second.code == 0, second.output
    assert lines(tmp_path / "a") == record  # the group was finished first, so nothing is done twice
    assert metrics(tmp_path / "run") == expected_metrics


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 128 + signal.SIGUSR1)])
def test_other_signals_write_a_checkpoint_too_and_have_codes_of_their_own(toy, tmp_path, sent, code):
    run = ("--run.out", tmp_path / "run", "--run.checkpoint_minutes", 100)
    ended = toy(*run, stop_at=1, stop_signal=int(sent))
    assert ended.code == code, ended.output
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["epoch-0000_batch-00002"]


def test_the_sigterm_behind_an_announced_end_leaves_time_for_the_checkpoint():
    stop = StopRequest()
    stop.install()
    try:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)  # would end this process if it were taken for a second wish
        signal.raise_signal(signal.SIGUSR1)
        assert stop.signal == signal.SIGUSR1
    finally:
        stop.remove()


def test_resume_of_a_finished_run_changes_nothing(toy, tmp_path):
    run = ("--run.out", tmp_path / "run", "--run.epochs", 1)
    assert toy(*run).code == 0
    before = (tmp_path / "run/metrics.jsonl").read_text()
    assert toy(*run, "--run.resume").code == 0
    assert (tmp_path / "run/metrics.jsonl").read_text() == before


def test_resume_without_a_checkpoint_starts_anew(toy, whole, tmp_path):
    record, _ = whole(1, 0)
    ended = toy("--run.out", tmp_path / "run", "--run.resume", record=str(tmp_path / "a"))
    assert ended.code == 0, ended.output
    assert lines(tmp_path / "a") == record


def test_refusals(toy, tmp_path):
    run = ("--run.out", tmp_path / "run")
    assert toy(*run, "--run.epochs", 1).code == 0
    again = toy(*run, "--run.epochs", 1)
    assert again.code == 2
    assert "is not empty" in again.output
    assert "--run.resume" in again.output
    other = toy(*run, "--run.epochs", 1, "--lr", 0.01, "--run.seed", 5, "--run.resume")
    assert other.code == 2
    assert "--lr 0.01 (was 0.05)" in other.output
    assert "--run.seed 5 (was 0)" in other.output
    longer = toy(*run, "--run.epochs", 2, "--run.resume")
    assert longer.code == 2
    assert "--run.new_epochs" in longer.output
    allowed = toy(*run, "--run.epochs", 2, "--run.resume", "--run.new_epochs")
    assert allowed.code == 0, allowed.output
    fewer = toy(*run, "--run.epochs", 2, "--run.resume", "--run.keep", 1, "--run.quiet")
    assert fewer.code == 0
    assert fewer.output == ""
    for ended in (again, other, longer):
        assert "Traceback" not in ended.output
        assert len(ended.output.strip().splitlines()) == 1


def test_a_full_disk_keeps_the_last_good_checkpoint(toy, tmp_path):
    run = ("--run.out", tmp_path / "run", "--run.checkpoint_minutes", 100)
    assert toy(*run, "--run.epochs", 1).code == 0
    good = (tmp_path / "run/checkpoints/epoch-0001_batch-00000/state.pt").read_bytes()
    more = ("--run.resume", "--run.epochs", 2, "--run.new_epochs")
    ended = toy(*run, *more, file_limit=len(good) // 2)
    assert ended.code == 2, ended.output
    assert "could not be written" in ended.output
    assert "epoch-0001_batch-00000" in ended.output
    assert "Traceback" not in ended.output
    assert os.listdir(tmp_path / "run/checkpoints") == ["epoch-0001_batch-00000"]
    assert (tmp_path / "run/checkpoints/epoch-0001_batch-00000/state.pt").read_bytes() == good


def test_a_batch_larger_than_the_data(toy, tmp_path):
    ended = toy("--run.out", tmp_path / "run", "--run.batch_size", 64)
    assert ended.code == 2
    assert "--run.batch_size 64" in ended.output
