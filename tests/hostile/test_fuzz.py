"""Thousands of damaged files of every kind, opened as people open them: each is opened, or refused in a sentence.

No other exception, no end of the process, nothing that takes ten seconds of the processor, no gigabyte of memory. What
is tried and how, stands in the folder `fuzzing`; what once broke something, in the folder `corpus`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fuzzing.driver import tried
from fuzzing.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
# Inputs of the short test: those of these cost up to half a second each, and a report draws curves besides.
FEW = {"configuration": 2, "settings of a comparison": 3, "released EsViT": 3, "report": 0}


def assert_all_are_opened_or_refused(inputs, folder, first=0):
    found = tried(inputs, folder, first)
    print(found)
    assert found.n_inputs == sum(inputs.values())
    assert not found.bad, str(found)


def test_hundreds_of_damaged_files_are_opened_or_refused(tmp_path):
    inputs = {name: FEW.get(name, 12) for name in TARGETS if FEW.get(name, 12)}
    assert sum(inputs.values()) >= 300
    assert_all_are_opened_or_refused(inputs, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(0)  # on a busy machine an hour; an input that hangs is ended by itself
def test_twenty_thousand_damaged_files_are_opened_or_refused(tmp_path):
    inputs = {name: target.inputs for name, target in TARGETS.items()}
    assert sum(inputs.values()) >= 20_000
    assert_all_are_opened_or_refused(inputs, tmp_path, first=1_000_000)


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Folders of valid files by target, made when they are asked for."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("valid")
            made[name] = {path.name: path for path in TARGETS[name].make(folder)}
        return made[name]

    return of


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_broke_something_does_so_no_more(path, valid):
    """A file of the corpus is called NUMBER-NAME and takes the place of the valid file NAME of its target."""
    from fuzzing.child import outcome

    name = path.parent.name.replace("_", " ")
    place = valid(name)[path.name.partition("-")[2]]
    whole = place.read_bytes()
    shutil.copyfile(path, place)
    found, said = outcome(TARGETS[name], place)
    place.write_bytes(whole)
    assert found in ("opened", "refused"), said
