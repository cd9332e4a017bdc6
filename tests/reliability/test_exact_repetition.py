"""The same seed on the same machine gives the same bytes, whoever reads the clips."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_second_run_ends_with_the_same_bytes(start, whole, assert_same_run, tmp_path, recipe, workers):
    expected = whole(recipe)
    running = start(recipe, tmp_path / "again", "--run.workers", workers)
    assert running.ended() == 0, running.output.read_text()[-3000:]
    assert_same_run(running.out, expected)
