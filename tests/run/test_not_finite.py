"""A step whose loss or gradient is not finite: named, kept to be run again, left out without a trace, or the end."""

import json

import pytest

from audiossl.run.not_finite import WHOLE, sentence

BAD = ({"bad_at": 4}, {"bad_gradient_at": 4})


def last_line(path):
    return json.loads(path.read_text().splitlines()[-1])


def metrics(out):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in row.keys() & {"kind", "epoch", "step", "loss", "lr", "knn"}} for row in rows]


@pytest.mark.parametrize("trouble", BAD)
def test_it_ends_the_run_at_once_and_says_which_clips(toy, tmp_path, trouble):
    out = tmp_path / "run"
    ended = toy("--run.out", out, "--run.log_steps", 100, **trouble)
    assert ended.code == 2
    what = "the loss is nan" if "bad_at" in trouble else "the gradient is not finite"
    assert f"{what} at optimiser step 5 (epoch 1, batch 5; clips clip-" in ended.output
    assert "lower learning rate" in ended.output
    assert "--run.skip_not_finite" in ended.output
    assert "Traceback" not in ended.output
    kept = max(path.name for path in (out / "checkpoints").iterdir())
    assert kept == "epoch-0000_batch-00004"
    assert kept in ended.output
    (facts,) = json.loads((out / "not_finite/step-5/batch.json").read_text())
    assert facts["step"] == 5
    assert len(facts["parts"][0]["clips"]) == 4
    assert facts["parts"][0]["names"] == [f"clip-{clip}" for clip in facts["parts"][0]["clips"]]
    assert facts["gradients_finite"] is False


@pytest.mark.parametrize("trouble", BAD)
@pytest.mark.parametrize(("accumulate", "left_out"), [(1, (4,)), (2, (4, 5)), (4, (4, 5))])
def test_a_step_that_is_left_out_changes_nothing_at_all(toy, tmp_path, trouble, accumulate, left_out):
    flags = ("--run.accumulate", accumulate, "--run.checkpoint_minutes", 100)
    skipped = toy(
        "--run.out", tmp_path / "a", *flags, "--run.skip_not_finite", 1, record=str(tmp_path / "left-out"), **trouble
    )
    assert skipped.code == 0, skipped.output
    assert "left out: the" in skipped.output
    assert "0 more may be" in skipped.output
    passed = toy("--run.out", tmp_path / "b", *flags, left_out=left_out, record=str(tmp_path / "passed"))
    assert passed.code == 0, passed.output
    # Weights, batch norms, teacher and random streams: dropout draws what it would have drawn without the step.
    assert last_line(tmp_path / "left-out") == last_line(tmp_path / "passed")
    losses = [[row for row in metrics(tmp_path / name) if row["kind"] == "epoch"] for name in ("a", "b")]
    assert losses[0] == losses[1]
    rows = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert [row["skipped_steps"] for row in rows if row["kind"] == "epoch"] == [1.0, 1.0]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_step_can_be_run_again(toy, tmp_path, accumulate):
    flags = ("--run.accumulate", accumulate, "--run.checkpoint_minutes", 100)
    first = toy("--run.out", tmp_path / "run", *flags, bad_at=5, record=str(tmp_path / "first"))
    assert first.code == 2, first.output
    (folder,) = (tmp_path / "run/not_finite").iterdir()
    again = toy("--config", folder / "again.yaml", bad_at=5, record=str(tmp_path / "again"))
    assert again.code == 2, again.output
    said = [ended.output.split("audiossl: error: ")[1].split(": ")[0] for ended in (first, again)]
    assert said[0] == said[1]
    assert not (folder / "not_finite").exists()
    # Without the trouble the run goes on from the folder as if it had never met it.
    whole = toy("--run.out", tmp_path / "whole", *flags, record=str(tmp_path / "whole.txt"))
    mended = toy("--config", folder / "again.yaml", record=str(tmp_path / "mended"))
    assert whole.code == mended.code == 0
    assert last_line(tmp_path / "mended") == last_line(tmp_path / "whole.txt")


def test_the_budget_counts_over_resumes(toy, tmp_path):
    run = ("--run.out", tmp_path / "run", "--run.skip_not_finite", 1)
    first = toy(*run, bad_at=1, stop_at=3)
    assert "left out" in first.output
    second = toy(*run, "--run.resume", bad_at=8)
    assert second.code == 2
    assert "at optimiser step 9" in second.output
    more = toy(*run[:2], "--run.skip_not_finite", 2, "--run.resume", bad_at=8)
    assert more.code == 0, more.output
    assert "left out" in more.output


def test_only_the_first_steps_are_kept_whole(toy, tmp_path):
    ended = toy("--run.out", tmp_path / "run", "--run.skip_not_finite", WHOLE, bad_from=3)
    assert ended.code == 2
    folders = {path.name for path in (tmp_path / "run/not_finite").iterdir()}
    assert folders == {f"step-{4 + number}" for number in range(WHOLE + 1)}
    whole = {path.parent.name for path in (tmp_path / "run/not_finite").glob("*/checkpoints")}
    assert whole == {f"step-{4 + number}" for number in range(WHOLE)}


def test_on_a_gpu_without_a_budget_it_is_noticed_where_the_host_waits_anyway(toy, tmp_path):
    ended = toy("--run.out", tmp_path / "run", "--run.checkpoint_minutes", 100, bad_at=2, as_on_gpu=True)
    assert ended.code == 2
    assert "the loss is nan at optimiser step 3 (epoch 1, batch 3; clips clip-" in ended.output
    (folder,) = (tmp_path / "run/not_finite").iterdir()
    assert [path.name for path in folder.iterdir()] == ["batch.json"]
    assert not (tmp_path / "run/checkpoints").exists()


def test_again_yaml_asks_for_the_same_run_in_its_own_folder(toy, tmp_path):
    toy("--run.out", tmp_path / "run", "--run.skip_not_finite", 3, "--lr", "0.03", bad_at=0)
    folder = tmp_path / "run/not_finite/step-1"
    text = (folder / "again.yaml").read_text()
    assert f"out: {folder}" in text
    assert "resume: true" in text
    assert "skip_not_finite: 0" in text
    assert "lr: 0.03" in text


def test_the_sentence_names_the_bad_part_of_several_ranks():
    part = {"batch": 3, "loss": "1.5", "clips": [1], "names": ["fine.wav"]}
    bad = {"batch": 4, "loss": "inf", "clips": list(range(9)), "names": [f"{n}.wav" for n in range(9)]}
    facts = [{"step": 2, "epoch": 1, "gradients_finite": False, "parts": parts} for parts in ([part], [part, bad])]
    assert sentence(facts) == (
        "the loss is inf at optimiser step 2 (epoch 2, batch 5; clips 0.wav, 1.wav, 2.wav, 3.wav, 4.wav and 4 more)"
    )
