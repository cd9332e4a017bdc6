"""Sounds that teach nothing: every recipe ends with finite numbers alone, and says what is wrong with the sounds."""

import json
import math

import numpy as np
import pytest
import soundfile

RATE, SAMPLES = 8000, 4000
T = np.arange(SAMPLES) / RATE
KINDS = {
    "clipping": (lambda number: np.clip(50 * np.sin(2 * np.pi * (200 + 40 * number) * T), -1, 1), "are clipped"),
    "DC": (lambda number: np.full(SAMPLES, 0.5), "a constant offset more than a sound"),
    "one clip": (lambda number: 0.3 * np.sin(2 * np.pi * 440 * T), "the same sound as another one"),
    "mostly silence": (lambda number: 0.1 * np.sin(2 * np.pi * 440 * T) * (number % 8 == 0), "are silent"),
}


def sounds(root, wave_of):
    for number in range(48):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{number:08x}_nohash_0.wav", wave_of(number).astype(np.float32), RATE)
    for name, numbers in (("validation", range(8)), ("testing", range(8, 16))):
        names = [f"{'ab'[number % 2]}/{number:08x}_nohash_0.wav" for number in numbers]
        (root / f"{name}_list.txt").write_text("\n".join(names))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_number_is_lost_and_a_warning_says_why_nothing_is_learnt(start, tmp_path, recipe, kind):
    wave_of, words = KINDS[kind]
    running = start(recipe, tmp_path / "run", "--data.root", sounds(tmp_path / "sounds", wave_of))
    assert running.ended() == 0, running.output.read_text()[-3000:]
    rows = [json.loads(line) for line in (running.out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) > 4
    assert [row for row in rows if not all(math.isfinite(v) for v in row.values() if isinstance(v, float))] == []
    said = running.output.read_text()
    assert words in said.split("warning: ", 1)[1]
    assert words in (running.out / "report.html").read_text()
    assert not (running.out / "not_finite").exists()


@pytest.mark.slow
def test_nothing_but_silence_is_refused_in_one_sentence(start, tmp_path, recipe):
    running = start(recipe, tmp_path / "run", "--data.root", sounds(tmp_path / "sounds", lambda number: 0 * T))
    assert running.ended() == 2
    said = running.output.read_text()
    assert "silence" in said.split("audiossl: error: ")[1]
    assert "Traceback" not in said
