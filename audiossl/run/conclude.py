"""The end of a run: the encoder that is kept, what it is worth, and the report."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from audiossl import __version__
from audiossl.data.cached import CachedClips
from audiossl.data.unusual import unusual_clips
from audiossl.encoder import AudioEncoder
from audiossl.explain.views import example_pictures
from audiossl.map.of_run import of_run
from audiossl.probes.config import ProbeTableConfig
from audiossl.probes.feature_file import clips_hash, encoder_hash
from audiossl.probes.features import why_no_probe
from audiossl.probes.table import Cell, ProbeTable
from audiossl.run import files, stages
from audiossl.run.report import write_report
from audiossl.run.session import Session
from audiossl.transforms import MultiCrop, Patches, TwoViews


def conclude(
    session: Session,
    encoder: AudioEncoder,
    views: MultiCrop | TwoViews | Patches,
    clips: CachedClips,
    probe: ProbeTableConfig,
    labels: str = "without labels",
    classifier: dict[str, float] | None = None,
) -> None:
    """Save the encoder, probe it where there are labels, write report.html, and print what came out.

    `labels` says how many the method has seen, for the model card. `classifier` holds the accuracies in percent of a
    method's own classifier, by split, which the table then shows beside the probes.
    """
    encoder.eval()
    folder = session.out / files.ENCODER
    encoder.save_pretrained(folder, extra=training_facts(session, clips, labels))
    table = None
    if probe.skip:
        session.say("no table of scores: --probe.skip")
    elif reason := why_no_probe(clips):
        session.say(f"no table of scores: {reason}")
    else:
        table = stages.probed(session.out, encoder, clips, probe, session.say)
        if classifier is not None and "classifier" not in table.columns:
            table = with_classifier(table, classifier, labels)
    if table is None:  # nothing tells whether an older map is this encoder's
        (session.out / files.MAP).unlink(missing_ok=True)
    draw_map(session, encoder, clips, probe)
    page = write_report(
        session.out,
        scores=table,
        views=example_pictures(encoder.frontend, encoder.normalize, views, clips.split("training")),
        warnings=warnings_of(clips),
    )
    stages.done(session.out, probe)
    session.say(_summary(table, folder, page))


def draw_map(session: Session, encoder: AudioEncoder, clips: CachedClips, probe: ProbeTableConfig) -> None:
    """Write map.html of the validation clips, as the encoder lays them out and as random weights do."""
    if probe.skip or not probe.map:
        return
    if (session.out / files.MAP).exists():  # of this very table: others were taken away
        session.say("map.html is there: nothing that matters has changed")
        return
    known = stages.kept_features(session.out, (encoder_hash(encoder), clips_hash(clips)))
    title = f"{clips.name}, as {session.out.name} hears it"
    of_run(session.out / files.MAP, encoder, clips, known, title, lambda text: session.say(f"map: {text}"))


def with_classifier(table: ProbeTable, accuracies: dict[str, float], labels: str) -> ProbeTable:
    """The table with a first column for the encoder's own classifier, from its accuracies in percent by split."""
    chosen = {"validation": accuracies["validation"]}
    first, *others = table.rows
    first = replace(first, scores={"classifier": Cell(accuracies["testing"], chosen=chosen), **first.scores})
    sentence = (
        f"{table.about['protocol']}; classifier: the head that the network was trained with ({labels}), whole clips; "
        "the network has seen those labels, whatever the other columns count"
    )
    about = {**table.about, "protocol": sentence}
    return replace(table, rows=[first, *others], columns=("classifier", *table.columns), about=about)


def training_facts(session: Session, clips: CachedClips, labels: str) -> dict[str, Any]:
    """What the model card says of the training."""
    training = clips.split("training")
    last = session.recorder.history[-1] if session.recorder.history else {}
    return {
        "Trained on": f"{len(training)} clips of {clips.name} ({clips.split_rule.rstrip('.')}), {labels}",
        "Length": f"{session.run.epochs} epochs, {last.get('step', 0)} steps, seed {session.run.seed}",
        "Precision": session.precision,
        "audiossl": __version__,
    }


def warnings_of(clips: CachedClips) -> list[str]:
    """Sentences for the reader on clips that could not be read, and on training clips that teach little."""
    unusual = unusual_clips(clips.split("training"))
    if not clips.skipped:
        return unusual
    names = ", ".join(name for name, _ in clips.skipped[:5])
    more = f" and {len(clips.skipped) - 5} more" if len(clips.skipped) > 5 else ""
    return [f"{len(clips.skipped)} clips could not be read and were left out: {names}{more}.", *unusual]


def _summary(table: ProbeTable | None, folder: Any, page: Any) -> str:
    lines = ["", table.markdown(), ""] if table is not None else [""]
    return "\n".join(
        [
            *lines,
            f"encoder  {folder}",
            f"report   {page.resolve()}",
            f"next     audiossl featurize YOUR_FOLDER --model {shlex.quote(str(folder))} -o embeddings.npz",
        ]
    )
