"""The end of a fine-tuning run: the classifier that is kept, what it is worth, and the report."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from audiossl import __version__
from audiossl.classifier import Classifier, load_classifier
from audiossl.data.cached import CachedClips
from audiossl.explain.views import example_pictures
from audiossl.map.of_run import of_classifier
from audiossl.probes.baselines import log_mel_tables
from audiossl.probes.classification import Classification, classification, sure_enough, temperature, worst_errors
from audiossl.probes.features import waves_to_features
from audiossl.probes.linear_start import linear_start
from audiossl.reading import read_json
from audiossl.run import files
from audiossl.run.classifier_page import WORST, save_worst
from audiossl.run.conclude import warnings_of
from audiossl.run.finetune_config import FinetuneConfig
from audiossl.run.finetuning import BATCH, MANY_LABELS, Lesson, Truth
from audiossl.run.page_file import replace
from audiossl.run.report import write_report
from audiossl.run.session import Session
from audiossl.transforms import MultiCrop

SCORES = "scores"


def scored(classifier: Classifier, truth: Truth) -> tuple[np.ndarray, Classification] | None:
    """Probabilities (N, K) and scores of a classifier, in evaluation mode, on whole clips; None without clips."""
    if not len(truth.clips):
        return None
    was_training = classifier.training
    classifier.eval()
    try:
        scores = waves_to_features(classifier, truth.clips, BATCH, next(classifier.parameters()).device)
    finally:
        classifier.train(was_training)
    probabilities = classifier.as_probabilities(torch.from_numpy(scores)).numpy()
    return probabilities, classification(probabilities, truth.table, classifier.labels, classifier.multi_label)


def main_score(scores: Classification, multi_label: bool) -> float:
    """The number that a run is judged by: accuracy in percent, or mean average precision of several labels a clip."""
    return scores.map if multi_label else scores.accuracy


@torch.no_grad()
def calibrate(classifier: Classifier, truth: Truth) -> None:
    """Scale the head so that probabilities of these clips, which it has not learned from, mean what they say."""
    if not len(truth.clips):
        return
    classifier.eval()
    scores = waves_to_features(classifier, truth.clips, BATCH, next(classifier.parameters()).device)
    t = temperature(scores.astype(np.float64), truth.table, classifier.multi_label)
    classifier.head.linear.weight.div_(t)
    classifier.head.linear.bias.div_(t)


def keep_probe(session: Session, classifier: Classifier, truths: dict[str, Truth]) -> None:
    """Keep the classifier before its first step, the linear probe of the encoder as it is, with its scores."""
    found = {split: scored(classifier, truths[split]) for split in ("validation", "testing")}
    scores = {split: main_score(pair[1], classifier.multi_label) for split, pair in found.items() if pair}
    if session.is_main:
        classifier.save_pretrained(session.out / files.LINEAR_PROBE, extra={SCORES: scores})


def probe_scores(out: Path) -> dict[str, float]:
    """Scores by split of the linear probe that a run began with; empty where there was none."""
    path = out / files.LINEAR_PROBE / "config.json"
    try:
        return dict(read_json(path)["extra"][SCORES])
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: the best epoch is kept without comparing
        return {}


def load_best(session: Session, classifier: Classifier, learner: nn.Module) -> None:
    """Give the classifier the weights that validation clips like best: of an epoch's end, or of the linear probe."""
    best, before = session.load_best(learner), probe_scores(session.out).get("validation")
    if before is not None and best is not None and before > best:
        session.say(f"no epoch is better on validation clips than the linear probe ({before:.1f} %), which is kept")
        classifier.load_state_dict(load_classifier(session.out / files.LINEAR_PROBE).state_dict())


def conclude_classifier(
    session: Session,
    classifier: Classifier,
    views: MultiCrop,
    taught: Lesson,
    clips: CachedClips,
    config: FinetuneConfig,
) -> dict[str, Any]:
    """Score, save the classifier and report.html, print what came out, and return it as JSON has it.

    Args:
        session: of the run.
        classifier: the best one.
        views: of the training.
        taught: what was learned, and the labels of the three splits.
        clips: the data set.
        config: says whether probabilities are calibrated, and what is called unknown.
    """
    classifier.eval()
    truths = taught.truths
    if config.calibrate:
        calibrate(classifier, truths["validation"])
    found = {split: scored(classifier, truths[split]) for split in ("validation", "testing")}
    if found["validation"] is not None and not classifier.multi_label and config.keep_known < 1.0:
        probabilities, _ = found["validation"]
        classifier.unknown_below = sure_enough(probabilities, truths["validation"].table, config.keep_known)
    result = _result(session, classifier, clips, taught, found)
    folder = session.out / files.CLASSIFIER
    classifier.save_pretrained(folder, extra=_facts(result, session))
    tested = found["testing"] or found["validation"]
    if tested is not None:
        split = "testing" if found["testing"] else "validation"
        rows = worst_errors(tested[0], truths[split].table, WORST)
        save_worst(session.out / files.WORST, truths[split].clips, tested[0], rows, classifier.labels)
    replace(session.out / files.CLASSIFICATION, json.dumps(result, indent=1, ensure_ascii=False))
    if config.map and found["validation"] is not None:
        held_out, title = truths["validation"].clips, f"{clips.name}, as {session.out.name} names it"
        of_classifier(session.out / files.MAP, classifier, held_out, found["validation"][0], title, session.say)
    training = truths["training"].clips
    pictures = example_pictures(classifier.encoder.frontend, classifier.encoder.normalize, views, training)
    page = write_report(session.out, views=pictures, warnings=warnings_of(clips))
    session.say(_summary(result, folder, page))
    return result


def _result(
    session: Session,
    classifier: Classifier,
    clips: CachedClips,
    taught: Lesson,
    found: dict[str, tuple[np.ndarray, Classification] | None],
) -> dict[str, Any]:
    scores = {split: pair[1].plain() for split, pair in found.items() if pair is not None}
    return {
        "about": {
            **clips.describe(),
            "told": taught.told,
            "multi_label": classifier.multi_label,
            "audiossl": __version__,
        },
        "epochs": len(session.recorder.history),
        "unknown_below": classifier.unknown_below,
        "scores": scores,
        "floors": {**_before(session.out), **_floors(taught.truths, classifier)},
    }


def _before(out: Path) -> dict[str, float]:
    scores = probe_scores(out)
    return {"linear probe before": scores["testing"]} if "testing" in scores else {}


def _floors(truths: dict[str, Truth], classifier: Classifier) -> dict[str, float]:
    """Scores on the test clips of what has learnt no network: log-mel statistics with the same labels, chance."""
    training, testing = truths["training"], truths["testing"]
    if not len(testing.clips):
        return {}
    multi_label, names = classifier.multi_label, classifier.labels

    def score(probabilities: np.ndarray) -> float:
        return main_score(classification(probabilities, testing.table, names, multi_label), multi_label)

    floors: dict[str, float] = {}
    tables = (log_mel_tables(truths[split].clips) for split in ("training", "testing", "validation"))
    seen, heard, checked = ({}, {}, {}) if len(names) > MANY_LABELS else tables
    for name in seen:
        start = linear_start(seen[name].x, training.table, checked[name].x, truths["validation"].table, multi_label)
        z = heard[name].x @ start.weight.T + start.bias
        floors[name] = score(classifier.as_probabilities(torch.from_numpy(z)).numpy())
    frequent = np.broadcast_to(training.table.mean(0), testing.table.shape)
    return {**floors, "most frequent label": score(frequent)}


def _facts(result: dict[str, Any], session: Session) -> dict[str, Any]:
    about, facts = result["about"], {}
    facts["Trained on"] = f"{about['name']} ({about['split_rule'].rstrip('.')}), {about['told']}"
    facts["Length"] = f"{result['epochs']} epochs, seed {session.run.seed}"
    for split, scores in result["scores"].items():
        name, value = ("mean average precision", "map") if about["multi_label"] else ("accuracy", "accuracy")
        facts[f"{name} on {split}".capitalize()] = f"{scores[value]:.1f} % of {scores['clips']} clips"
    return facts


def _not_better(result: dict[str, Any]) -> list[str]:
    """A line that names what the classifier is no better than on the test clips, where there is such a thing."""
    if "testing" not in result["scores"]:
        return []
    own = result["scores"]["testing"]["map" if result["about"]["multi_label"] else "accuracy"]
    others = [name for name, value in result["floors"].items() if value >= own]
    return [f"{'warning':<12}on the test clips it is no better than: {', '.join(others)}"] if others else []


def _summary(result: dict[str, Any], folder: Path, page: Path) -> str:
    key = "map" if result["about"]["multi_label"] else "accuracy"
    name = "mean average precision" if key == "map" else "accuracy"
    lines = [""]
    for split, scores in result["scores"].items():
        lines.append(
            f"{split:<12}{name} {scores[key]:.1f} %, balanced {scores['balanced']:.1f} %, calibration error "
            f"{scores['ece']:.1f} % ({scores['clips']} clips)"
        )
    floors = ", ".join(f"{name} {value:.1f} %" for name, value in result["floors"].items())
    return "\n".join(
        [
            *lines,
            *([f"{'beside':<12}{floors}"] if floors else []),
            *_not_better(result),
            "",
            f"classifier  {folder}",
            f"report      {page.resolve()}",
            f"next        audiossl predict A_RECORDING --model {shlex.quote(str(folder))}",
        ]
    )
