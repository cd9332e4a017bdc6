"""Checkpoints: what is kept, what is refused, what is never run."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from audiossl.errors import UserError
from audiossl.run.checkpoint import Checkpoints, Position, read_position, read_state, refuse_another
from audiossl.run.config import RunConfig


def state(value: float = 0.0) -> dict:
    return {"models": [{"weight": torch.full((3,), value)}], "config": {}}


def names(checkpoints: Checkpoints) -> list[str]:
    return [path.name for path in checkpoints.all()]


def test_keeps_the_last_and_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, best="knn")
    assert checkpoints.latest() is None
    for epoch, knn in enumerate([3.0, 9.0, float("nan"), 9.0, 5.0], start=1):
        checkpoints.save(state(epoch), Position(epoch=epoch, monitors={"knn": knn}))
    assert names(checkpoints) == ["epoch-0002_batch-00000", "epoch-0004_batch-00000", "epoch-0005_batch-00000"]
    assert checkpoints.best_one().name == "epoch-0002_batch-00000"
    assert read_state(checkpoints.latest())["models"][0]["weight"].tolist() == [5.0] * 3
    assert sorted(os.listdir(tmp_path)) == names(checkpoints)  # nothing half-written is left


def test_places_are_ordered_by_epoch_then_batch(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=9, best="knn")
    places = [(2, 0), (0, 900), (1, 5), (1, 40)]
    for epoch, batch in places:
        checkpoints.save(state(), Position(epoch=epoch, batch=batch, step=7))
    found = [read_position(path) for path in checkpoints.all()]
    assert [(place.epoch, place.batch) for place in found] == sorted(places)


def test_the_furthest_is_found_by_its_numbers_and_not_by_their_digits(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, best="knn")
    for epoch, batch in ((9_998, 0), (9_999, 99_999), (9_999, 100_000), (10_000, 7), (10_000, 120_000)):
        path = checkpoints.save(state(), Position(epoch=epoch, batch=batch))
        assert checkpoints.latest() == path
    assert names(checkpoints) == ["epoch-10000_batch-00007", "epoch-10000_batch-120000"]


def test_the_same_place_twice_is_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best="knn")
    for value in (1.0, 2.0):
        checkpoints.save(state(value), Position(epoch=1))
    assert read_state(checkpoints.latest())["models"][0]["weight"][0] == 2.0
    assert len(os.listdir(tmp_path)) == 1


def test_leftovers_of_a_killed_write_are_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, best="knn")
    (tmp_path / ".epoch-0001_batch-00000.part").mkdir()
    (tmp_path / ".epoch-0001_batch-00000.part" / "position.json").write_text("{}")
    (tmp_path / "epoch-0002_batch-00000").mkdir()
    assert checkpoints.all() == []


def test_a_resumed_run_clears_leftovers_away_and_takes_back_what_was_being_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, best="knn")
    first = checkpoints.save(state(1.0), Position(epoch=1))
    checkpoints.save(state(2.0), Position(epoch=2))
    os.rename(first, tmp_path / f".{first.name}.old")  # killed before the new one got its name
    for leftover in (".epoch-0001_batch-00000.part", ".epoch-0002_batch-00000.old"):
        (tmp_path / leftover).mkdir()
    checkpoints.tidy()
    assert sorted(os.listdir(tmp_path)) == ["epoch-0001_batch-00000", "epoch-0002_batch-00000"]
    assert [read_state(path)["models"][0]["weight"][0] for path in checkpoints.all()] == [1.0, 2.0]


def test_a_removal_that_was_killed_leaves_nothing_once_the_run_is_resumed(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1, best="knn")
    path = checkpoints.save(state(), Position(epoch=1))

    def killed(folder, **_):
        for file in list(Path(folder).glob("position.json")):
            file.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.remove(path)
    assert checkpoints.all() == []
    assert list(tmp_path.rglob("state.pt")) != []
    checkpoints.tidy()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("bit", range(8))
def test_a_bit_that_flipped_in_a_tensor_is_noticed(tmp_path, bit):
    path = Checkpoints(tmp_path, keep=2, best="knn").save(state(1.0), Position(epoch=1)) / "state.pt"
    whole = path.read_bytes()
    place = whole.index(torch.full((3,), 1.0).numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    assert torch.load(path, weights_only=True)["models"][0]["weight"][0] != 1.0  # torch itself takes it
    with pytest.raises(UserError, match=r"state\.pt cannot be read .*not what was written.*earlier one"):
        read_state(path.parent)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = Checkpoints(tmp_path, keep=2, best="knn").save(state(), Position(epoch=1))
    whole = (path / "state.pt").read_bytes()
    for damaged in (b"", b"nothing", whole[: len(whole) // 2]):
        (path / "state.pt").write_bytes(damaged)
        with pytest.raises(UserError, match=r"state\.pt cannot be read .* remove"):
            read_state(path)
    (path / "position.json").write_text('{"epoch": 1, "colour": 2}')
    with pytest.raises(UserError, match=r"position\.json is damaged"):
        read_position(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_foreign_file_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    path = tmp_path / "epoch-0001_batch-00000"
    path.mkdir()
    for write in (torch.save, lambda thing, file: file.write_bytes(pickle.dumps(thing))):
        write({"models": Evil()}, path / "state.pt")
        with pytest.raises(UserError, match="cannot be read"):
            read_state(path)
        assert not (tmp_path / "owned").exists()


def test_another_configuration_is_refused_by_name(tmp_path):
    saved = {"lr": 0.1, "run": {"epochs": 3, "keep": 2, "out": "a"}}
    now = {"lr": 0.1, "run": {"epochs": 3, "keep": 5, "out": "b"}}
    notes = refuse_another(saved, now, False, tmp_path)
    assert notes == ["run.keep is now 5 (was 2)", "run.out is now b (was a)"]
    with pytest.raises(UserError, match=r"--lr 0\.2 \(was 0\.1\)"):
        refuse_another(saved, {**now, "lr": 0.2}, False, tmp_path)
    longer = {"lr": 0.1, "run": {**now["run"], "epochs": 4}}
    with pytest.raises(UserError, match=r"--run\.epochs 4 \(was 3\).*--run\.new_epochs"):
        refuse_another(saved, longer, False, tmp_path)
    assert "run.epochs is now 4 (was 3)" in refuse_another(saved, longer, True, tmp_path)
    with pytest.raises(UserError, match=r"--colour red \(was absent\)"):
        refuse_another(saved, {**now, "colour": "red"}, True, tmp_path)


def test_every_key_that_may_change_exists():
    from audiossl.data.config import DataConfig
    from audiossl.run.config import MAY_CHANGE

    for key in MAY_CHANGE:
        section, name = key.split(".")
        assert hasattr({"run": RunConfig, "data": DataConfig}[section](), name)
