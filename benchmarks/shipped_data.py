"""Write the list of clips that the models in `pretrained/` learn from, as a manifest for `--data.root`.

    python benchmarks/shipped_data.py SPEECH_COMMANDS_9W --without SPEECH_COMMANDS_35W_MINI -o shipped.csv

Training clips of nine words of Speech Commands, less those of speakers who are heard in the tests of another set, and
words that synthetic voices say (`spoken_words` with a longer list of words), whose labels are not given. Validation
clips are those of Speech Commands.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

from audiossl.data import DataConfig, open_clips
from audiossl.data.config import cache_root
from audiossl.data.spoken_words import WORDS, SpokenWords, ensure
from audiossl.errors import errors_for_people

# Common short words beside those of Speech Commands, so that no network gets away with knowing thirty-five.
MORE_WORDS = Path(__file__).with_name("shipped_words.txt").read_text(encoding="utf-8").split()


def speakers(root: str) -> set[str]:
    """Everybody who is heard in a data set."""
    return {clip.speaker for clip in open_clips(DataConfig(root=root)).clips if clip.speaker}


def real(root: str, without: set[str]) -> Iterable[dict[str, str]]:
    """Rows of the training and validation clips of a data set."""
    for clip in open_clips(DataConfig(root=root)).clips:
        if clip.split != "testing" and clip.speaker not in without:
            yield {
                "path": str(Path(str(clip.source)).resolve()),
                "label": clip.label or "",
                "split": clip.split,
                "speaker": clip.speaker or "",
            }


def synthetic(words: tuple[str, ...], voices: int) -> Iterable[dict[str, str]]:
    """Rows of all words by that many voices, made in the cache where they are not there yet."""
    folder = ensure(
        SpokenWords(seed=7, training=voices, validation=0, testing=0, words=words), cache_root(DataConfig())
    )
    for path in sorted(folder.glob("*/*.flac")):
        yield {"path": str(path), "label": "", "split": "training", "speaker": path.name.partition("_")[0]}


@errors_for_people
def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="folder of Speech Commands, with its lists")
    parser.add_argument("--without", action="append", default=[], help="leave out everybody who is heard in this set")
    parser.add_argument("--voices", type=int, default=48, help="synthetic voices that say all words; 0: people only")
    parser.add_argument("-o", "--out", type=Path, default=Path("shipped.csv"))
    flags = parser.parse_args()
    heard_elsewhere = set().union(*map(speakers, flags.without))
    words = tuple(dict.fromkeys([*WORDS, *MORE_WORDS]))
    people = list(real(flags.root, heard_elsewhere))
    machines = list(synthetic(words, flags.voices)) if flags.voices else []
    with open(flags.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "label", "split", "speaker"])
        writer.writeheader()
        writer.writerows(people + machines)
    print(f"{flags.out}: {len(people)} clips of people, {len(machines)} of {flags.voices} voices x {len(words)} words")


if __name__ == "__main__":
    main()
