"""Every recipe whose numbers run away says at which step and on which clips, and can run that step again."""

import json

import pytest

RUNAWAY = (
    "--optim.name",
    "adamw",
    "--optim.lr",
    "1e30",
    "--optim.warmup_epochs",
    0,
    "--optim.warmup_share",
    0,
    "--optim.clip_grad",
    0,
)


def said(running):
    return running.output.read_text().rsplit("audiossl: error: ", 1)[1].split(": ")[0]


@pytest.mark.slow
def test_the_step_of_a_recipe_can_be_run_again(start, tmp_path, recipe):
    first = start(recipe, tmp_path / "run", *RUNAWAY, "--run.checkpoint_minutes", 100)
    assert first.ended() == 2, first.output.read_text()[-3000:]
    (folder,) = (first.out / "not_finite").iterdir()
    (facts,) = json.loads((folder / "batch.json").read_text())
    assert f"at optimiser step {facts['step']} (epoch" in said(first)
    assert "_nohash_" in facts["parts"][0]["names"][0]
    again = start(recipe, folder, "--config", folder / "again.yaml", alone=True)
    assert again.ended() == 2, again.output.read_text()[-3000:]
    assert said(again) == said(first)
