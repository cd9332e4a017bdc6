"""A classifier out of an encoder and labelled sounds: Speech Commands, a folder, a manifest or a data set.

First the best linear reading of the encoder (logistic regression), which is kept and stands in every table; then all
layers learn. Validation clips choose the epoch that is kept; test clips are read once, at the end. The result is one
folder, `classifier`, for `audiossl predict`, `audiossl export` and `audiossl.load_classifier`.

    accelerate launch recipes/finetune.py --data.root LABELLED --finetune.encoder runs/mine/encoder --run.out runs/words
    accelerate launch recipes/finetune.py --data.root LABELLED --finetune.encoder ENCODER --method.label_share 0.1
    accelerate launch recipes/finetune.py --data.root esc10 --data.clip_s 5 --folds esc10.csv:fold ...
    accelerate launch recipes/finetune.py --data.root LABELLED --backbone.name timm/convnext_atto

Labels are the names of the folders, or a column of a manifest or of a data set of the Hugging Face Hub; with
`--method.multi_label` a clip may have several ("rain;wind"). What to expect: docs/finetuning.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from audiossl.transforms import FrontEndConfig, MelConfig, MultiCrop, MultiCropConfig, WaveAugmentConfig

from audiossl.backbones import BackboneConfig
from audiossl.backbones.batch_norm import freeze_batch_norm
from audiossl.classifier import Classifier
from audiossl.config import parse
from audiossl.data import CachedClips, DataConfig, cache_clips, open_augment, open_clips, training_loader
from audiossl.encoder import AudioEncoder
from audiossl.errors import errors_for_people
from audiossl.methods.supervised import Supervised, SupervisedConfig, balanced_weights, positive_weights
from audiossl.optim import OptimConfig, build_optimizer, rates, set_rates
from audiossl.run.begin import new_encoder
from audiossl.run.clip_length import of_length
from audiossl.run.conclude_classifier import conclude_classifier, keep_probe, load_best, main_score, scored
from audiossl.run.config import RunConfig
from audiossl.run.cross_validation import fold_by_fold
from audiossl.run.finetune_config import FinetuneConfig
from audiossl.run.finetuning import (
    MANY_LABELS,
    Lesson,
    data_at_rate,
    fit_head,
    lesson,
    open_encoder,
    targets,
)
from audiossl.run.labels import enough
from audiossl.run.session import Session


@dataclass
class Config:
    """Everything that decides a run: the preset's values (`small` unless another is named), then flags."""

    data: DataConfig = field(default_factory=DataConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    method: SupervisedConfig = field(default_factory=SupervisedConfig)
    wave: WaveAugmentConfig = field(default_factory=WaveAugmentConfig)
    views: MultiCropConfig = field(default_factory=MultiCropConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(out="runs/finetune", best="validation_accuracy"))
    # Without --finetune.encoder: the picture and the network, which begins with random weights.
    frontend: FrontEndConfig = field(default_factory=MelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    # Train and test once for each group of the clips: speaker, or FILE.csv:COLUMN; the next group is for validation.
    # A {fold} in --finetune.encoder is the fold's name, fold-GROUP: an encoder must not have heard its test clips.
    folds: str = ""


class Start(NamedTuple):
    """What training begins with: `classifier` is what is kept, `method` what learns, and they share their weights."""

    clips: CachedClips
    lesson: Lesson
    labels: torch.Tensor
    views: MultiCrop
    method: Supervised
    classifier: Classifier


def build(config: Config, session: Session, encoder: AudioEncoder | None) -> Start:
    """Encoder, labels, views and classifier on the device, and the linear probe of an encoder that has learnt."""
    rate = config.frontend.sample_rate if encoder is None else encoder.sample_rate
    data, resampled = data_at_rate(config.data, rate)
    if resampled:
        session.say(resampled)
    with session.accelerator.main_process_first():  # one process fills the cache, the others read it
        clips = cache_clips(open_clips(data), data)
    taught = lesson(clips, config.method, config.run.seed)
    session.say(f"{clips.name}: {len(clips.split('training'))} training clips, {taught.told}")
    if encoder is None:
        encoder = new_encoder(config.frontend, config.backbone, clips.split("training"))
    encoder = of_length(encoder, clips.clip_s).to(session.device)
    views = MultiCrop(config.views, encoder.image_size, clips.clip_s)
    labels = targets(taught, config.finetune, session.device)
    learned = encoder.frontend if list(encoder.frontend.parameters()) else None
    counts = weights(config.method, labels, len(taught.names))
    method = Supervised(encoder.backbone, len(taught.names), config.method, counts, learned).to(session.device)
    classifier = Classifier(encoder, method.head, taught.names, config.method.multi_label)
    if session.is_new and config.finetune.has_learnt and len(taught.names) <= MANY_LABELS:
        fit_head(classifier, taught)
        keep_probe(session, classifier, taught.truths)
        if config.finetune.start == "new":
            method.head.linear.reset_parameters()
    return Start(clips, taught, labels, views, method, classifier)


def main(config: Config) -> dict:
    """Fine-tune, keep the classifier, print and write what it is worth, and return that (on the first process)."""
    if config.method.multi_label:
        config.run.best = "validation_map"
    encoder = open_encoder(config.finetune, config.run.seed)
    session = Session(config.run, config)
    clips, taught, labels, views, method, classifier = build(config, session, encoder)
    session.start_from(method)
    optimizer = build_optimizer(method, config.optim)
    augment = open_augment(config.wave, clips.sample_rate).to(session.device)
    loader = training_loader(taught.clips, config.run.batch_size, config.run.workers)
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    session.resume()

    learner: Supervised = session.unwrap(method)
    below_head = [part for part in (learner.backbone, learner.frontend) if part is not None]
    image = classifier.encoder.image
    total, per_epoch = session.total_steps(loader), session.steps_per_epoch(loader)
    clips_per_step = config.run.batch_size * config.run.accumulate * session.processes
    for epoch in session.epochs():
        if session.ranks.largest(enough(session.recorder.history, config.run.best, config.finetune.patience)):
            session.say(f"no better for {config.finetune.patience} epochs (--finetune.patience): done")
            break
        frozen = epoch < config.finetune.frozen_epochs
        method.train()
        for part in below_head:
            part.train(not frozen)
        if config.finetune.frozen_batch_norm:
            freeze_batch_norm(learner.backbone)
        for step, batch in session.steps(loader, epoch):
            set_rates(optimizer, rates(config.optim, step.index, total, per_epoch, clips_per_step))
            with session.accumulate(method):
                heard = augment.copies(batch.wave, 2, step.generator)
                out = method(views([image(wave) for wave in heard], step.generator), labels[batch.index])
                session.backward(out.loss)
                for part in below_head if frozen else ():  # first, or the head's would be clipped for theirs
                    part.zero_grad()  # to None: the optimiser leaves alone what has no gradient
                if session.synced and config.optim.clip_grad:
                    session.clip(learner.parameters(), config.optim.clip_grad, config.optim.clip_each)
                optimizer.step()
                optimizer.zero_grad()
            session.log(step, out.logs)
        found = scored(classifier, taught.truths["validation"]) if session.monitor_due(epoch) else None
        session.end_epoch(epoch, {config.run.best: main_score(found[1], classifier.multi_label)} if found else {})
    session.finish()
    load_best(session, classifier, learner)
    if not session.is_main:
        return {}
    return conclude_classifier(session, classifier, views, taught, clips, config.finetune)


def weights(config: SupervisedConfig, labels: torch.Tensor, n_classes: int) -> torch.Tensor | None:
    """How much each label counts (K,), by `--method.class_weights`."""
    if config.class_weights == "none":
        return None
    if config.multi_label:
        return positive_weights(labels)
    return balanced_weights(labels if labels.ndim == 1 else labels.argmax(1), n_classes)


@errors_for_people
def run() -> None:
    """Read the command line and run, once or fold by fold."""
    config = parse(Config, __file__, preset="small")
    if not config.folds:
        main(config)
        return

    def one(lists: Path, out: Path) -> dict:
        data, run = replace(config.data, lists=str(lists)), replace(config.run, out=str(out))
        tuned = replace(config.finetune, encoder=config.finetune.encoder.replace("{fold}", lists.name))
        return main(replace(config, data=data, finetune=tuned, run=run, folds=""))

    fold_by_fold(config.data, config.folds, Path(config.run.out), one)


if __name__ == "__main__":
    run()
