"""`audiossl cleanup` removes what it names, keeps the last and the best, and leaves a run that can be resumed."""

import json

import pytest

from audiossl.cli import main
from audiossl.run.checkpoint import Checkpoints


@pytest.fixture
def run(tmp_path):
    """A run with five checkpoints, the second the best by its own monitor."""
    folder = tmp_path / "run"
    (folder / "encoder").mkdir(parents=True)
    (folder / "config.yaml").write_text("run:\n  best: validation_accuracy\n")
    for epoch in range(1, 6):
        path = folder / "checkpoints" / f"epoch-{epoch:04d}_batch-00000"
        path.mkdir(parents=True)
        (path / "state.pt").write_bytes(b"0" * 1000)
        monitors = {"validation_accuracy": 90.0 if epoch == 2 else 10.0 * epoch, "knn": float(epoch)}
        (path / "position.json").write_text(json.dumps({"epoch": epoch, "monitors": monitors}))
    return folder


def epochs(run):
    return [int(path.name[6:10]) for path in Checkpoints(run / "checkpoints", 1, "").all()]


def test_nothing_goes_without_a_yes(run, capsys):
    assert main(["cleanup", str(run), "--keep", "2"]) == 0
    said = capsys.readouterr().out
    assert epochs(run) == [1, 2, 3, 4, 5]
    assert said.count("would remove") == 2
    assert "Nothing was removed" in said


def test_the_last_and_the_best_stay(run, capsys):
    assert main(["cleanup", str(run), "--keep", "2", "--yes"]) == 0
    assert epochs(run) == [2, 4, 5]
    assert "removed" in capsys.readouterr().out
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        f"epoch-{epoch:04d}_batch-00000" for epoch in (2, 4, 5)
    ]
    assert (run / "encoder").is_dir()
    assert main(["cleanup", str(run), "--keep", "0", "-y"]) == 0
    assert epochs(run) == []


@pytest.mark.parametrize("yes", [False, True])
def test_as_json(run, capsys, yes):
    assert main(["cleanup", str(run), "--keep", "2", "--json", *["--yes"] * yes]) == 0
    names = [str(run / "checkpoints" / f"epoch-{epoch:04d}_batch-00000") for epoch in (1, 3)]
    found = json.loads(capsys.readouterr().out)
    assert found.pop("bytes") > 2000
    assert found == {"run": str(run), "removed": yes, "checkpoints": names, "left": 3}
    assert len(epochs(run)) == (3 if yes else 5)


@pytest.mark.parametrize(
    ("arguments", "sentence"), [(["--keep", "-1"], "--keep is -1"), ([], "is not the folder of a")]
)
def test_mistakes_are_one_sentence_and_remove_nothing(run, tmp_path, capsys, arguments, sentence):
    # A wrong folder beside a right one: neither is touched.
    with pytest.raises(SystemExit) as stopped:
        main(["cleanup", str(run), *([] if arguments else [str(tmp_path)]), *arguments, "--yes"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert epochs(run) == [1, 2, 3, 4, 5]
