"""Coverage-guided fuzzing of one target, as long as one likes; needs atheris, which is no dependency.

    pip install atheris
    cd tests/hostile && python -m fuzzing.guided "list jsonl" /tmp/fuzz -max_total_time=60

What follows the folder goes to libFuzzer. It ends at the first input that is neither opened nor refused, and keeps it.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["audiossl", "yaml", "tarfile", "zipfile", "csv", "json"]):
    from .child import outcome
    from .targets import TARGETS


def main(name: str, folder: Path, *flags: str) -> None:
    """Fuzz a target from its valid files on."""
    target, corpus, work = TARGETS[name], folder / "corpus", folder / "work"
    corpus.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    place = target.make(work)[0]
    (corpus / place.name).write_bytes(place.read_bytes())

    def once(content: bytes) -> None:
        place.write_bytes(content)
        found, said = outcome(target, place)
        if found not in ("opened", "refused"):
            raise RuntimeError(f"{found}: {said}")

    warnings.simplefilter("ignore")
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={folder}/", str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
