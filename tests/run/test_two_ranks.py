"""Two real processes on one CPU: each trap of Accelerate that a recipe would fall into, by what ranks saw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("two_ranks_script.py")
pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    port = ["--main_process_port", "0"]  # any free one, so that several test runs do not meet
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *port, str(SCRIPT), str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def ranks(folder):
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def ids(seen: list, epoch: int) -> list[int]:
    return [clip for entry in seen if entry[0] == epoch for clip in entry[3]]


def test_there_are_really_two(ranks):
    assert [rank["whole"]["processes"] for rank in ranks] == [2, 2]
    assert [rank["whole"]["rank"] for rank in ranks] == [0, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="names of threads are read from /proc")
def test_no_thread_of_the_group_lives_when_python_ends(folder):
    # torn down with the interpreter, such a thread now and then aborts a process that was done
    for rank in (0, 1):
        names = json.loads((folder / f"rank{rank}.threads.json").read_text())
        assert not [name for name in names if "gloo" in name]


def test_initial_weights_are_equal_and_draws_differ(ranks):
    first, second = (rank["whole"] for rank in ranks)
    assert first["initial"] == second["initial"]
    assert first["global_draw"] != second["global_draw"]
    assert first["python_draw"] != second["python_draw"]
    views = [[entry[4] for entry in rank["seen"]] for rank in (first, second)]
    assert not set(views[0]) & set(views[1])
    assert len(set(views[0])) == len(views[0])


def test_weights_stay_equal(ranks):
    assert ranks[0]["whole"]["final"] == ranks[1]["whole"]["final"]


def test_the_schedule_follows_optimiser_steps_and_not_processes(ranks):
    # 23 clips / (2 clips x 2 ranks) = 5 micro-batches per rank; accumulated by 2: steps of 2, 2 and 1
    for rank in ranks:
        whole = rank["whole"]
        assert whole["length"] == 5
        assert whole["total_steps"] == 6
        assert [entry[2] for entry in whole["seen"]] == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]


def test_clips_are_disjoint_and_complete_up_to_the_last_batch(ranks):
    for epoch in (0, 1):
        first, second = (ids(rank["whole"]["seen"], epoch) for rank in ranks)
        assert len(first) == len(second) == 10
        assert len({*first, *second}) == 20
    assert ids(ranks[0]["whole"]["seen"], 0) != ids(ranks[0]["whole"]["seen"], 1)


def test_resumed_in_mid_epoch_equals_uninterrupted(ranks):
    for rank in ranks:
        whole = rank["whole"]["seen"]
        assert rank["first"]["seen"] == whole[:3]
        # the third micro-batch was alone in its group: it is done again from the checkpoint before it
        assert rank["second"]["seen"] == whole[2:]
        assert rank["second"]["final"] == rank["whole"]["final"]


def test_what_each_rank_remembers_by_itself_survives_a_resume(ranks):
    for rank in ranks:
        assert rank["second"]["memory"] == rank["whole"]["memory"]
        assert rank["whole"]["memory"][1] == len(rank["whole"]["seen"])
    assert ranks[0]["whole"]["memory"] != ranks[1]["whole"]["memory"]


def test_gather_for_metrics_counts_every_clip_once(ranks):
    for rank in ranks:
        assert sorted(rank["gathered"]) == list(range(10))


def test_only_rank_0_writes(folder, ranks):
    rows = [json.loads(line) for line in (folder / "whole/metrics.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("step", 2), ("epoch", 3), ("step", 4), ("step", 6), ("epoch", 6),
    ]  # fmt: skip
    losses = [[entry[5] for entry in rank["whole"]["seen"] if entry[0] == 0] for rank in ranks]
    mean = sum(map(sum, losses)) / 10
    assert rows[1]["loss"] == pytest.approx(mean, rel=1e-5)  # over the batches of both ranks


def test_a_refusal_is_said_once(ranks):
    assert [rank["refused"] for rank in ranks] == ["UserError", "SystemExit"]


def test_a_loss_that_is_bad_on_one_rank_is_left_out_by_all(ranks):
    # The third micro-batch is of the second optimiser step, which is then as if it had never been.
    for rank in ranks:
        for key in ("final", "memory"):
            assert rank["skipped"][key] == rank["passed"][key]
        assert rank["skipped"]["final"] != rank["whole"]["final"]
    assert ranks[0]["skipped"]["final"] == ranks[1]["skipped"]["final"]


def test_a_loss_that_is_bad_on_one_rank_ends_all_and_names_that_rank_s_clips(folder, ranks):
    assert [rank["fatal"]["error"] for rank in ranks] == ["UserError", "SystemExit"]
    said = ranks[0]["fatal"]["said"]
    assert "the loss is inf at optimiser step 2 (epoch 1, batch 3; clips clip-" in said
    facts = json.loads((folder / "fatal/not_finite/step-2/batch.json").read_text())
    assert [part["loss"] for one in facts for part in one["parts"]].count("inf") == 1
    clips = [clip for one in facts for part in one["parts"] if part["loss"] == "inf" for clip in part["clips"]]
    assert clips == ranks[1]["whole"]["seen"][2][3]
    for clip in clips:
        assert f"clip-{clip}" in said
