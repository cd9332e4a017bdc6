"""A classifier on Speech Commands, or on any folder of labelled audio: what the same network gives when told labels.

The same pictures, views and networks as the self-supervised recipes, with a linear head and cross-entropy in place of
a teacher: the upper row beside them, a classifier to use, and with few labels a class the row that says what
pretraining saves. With `--run.start_from` it fine-tunes the network of an EsViT run.

    accelerate launch recipes/supervised_speechcommands.py --data.root FOLDER --run.out runs/labels
    accelerate launch recipes/supervised_speechcommands.py --data.root FOLDER --method.labels_per_class 20
    accelerate launch recipes/supervised_speechcommands.py --data.root FOLDER --run.start_from runs/esvit
    accelerate launch --multi_gpu --num_processes 8 recipes/supervised_speechcommands.py --data.root SPEECH_COMMANDS

Labels are the names of the folders, or a column of a manifest. The classifier is the method in the checkpoints; the
folder `encoder` holds its network without the head.

What to expect: 97.0 % of the 500 test clips of nine words of Speech Commands, after 30 epochs of a ResNet-10 on 3,911.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from audiossl.transforms import FrontEndConfig, MelConfig, MultiCrop, MultiCropConfig, WaveAugmentConfig

from audiossl.backbones import BackboneConfig
from audiossl.config import parse
from audiossl.data import CachedClips, DataConfig, cache_clips, open_augment, open_clips, training_loader
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError, errors_for_people
from audiossl.methods.supervised import Supervised, SupervisedConfig, balanced_weights
from audiossl.optim import OptimConfig, build_optimizer, rates, set_rates
from audiossl.probes.config import ProbeTableConfig
from audiossl.run.begin import new_encoder
from audiossl.run.conclude import conclude
from audiossl.run.config import RunConfig
from audiossl.run.labels import labelled_clips
from audiossl.run.monitors import OnlineKNN, classifier_accuracy, monitor
from audiossl.run.session import Session


@dataclass
class Config:
    """Everything that decides a run: the preset's values (`small` unless another is named), then flags."""

    data: DataConfig = field(default_factory=DataConfig)
    wave: WaveAugmentConfig = field(default_factory=WaveAugmentConfig)
    frontend: FrontEndConfig = field(default_factory=MelConfig)
    views: MultiCropConfig = field(default_factory=MultiCropConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    method: SupervisedConfig = field(default_factory=SupervisedConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(out="runs/supervised_speechcommands", best="validation_accuracy")
    )
    probe: ProbeTableConfig = field(default_factory=ProbeTableConfig)


def build(config: Config, training: CachedClips, taught: CachedClips) -> tuple[AudioEncoder, MultiCrop, Supervised]:
    """The encoder that will be kept, the views, and the classifier around its network.

    The statistics are those of all `training` clips, which need no labels; `taught` are the clips whose labels count.
    """
    encoder = new_encoder(config.frontend, config.backbone, training)
    views = MultiCrop(config.views, encoder.image_size, training.clip_s)
    n_classes = len(taught.label_names)
    weights = None
    if config.method.class_weights == "balanced":
        weights = balanced_weights(torch.from_numpy(taught.label_ids), n_classes)
    learned = encoder.frontend if list(encoder.frontend.parameters()) else None
    return encoder, views, Supervised(encoder.network, n_classes, config.method, weights, learned)


def accuracies(encoder: AudioEncoder, learner: Supervised, clips: CachedClips) -> dict[str, float]:
    """Percent of the validation and of the test clips that the classifier names, whole clips without augmentation."""
    splits = ("validation", "testing")
    return {split: classifier_accuracy(encoder, learner.head, clips.split(split)) for split in splits}


def main(config: Config) -> None:
    """Train, keep the encoder, print and write what it is worth."""
    if config.method.multi_label:
        raise UserError(
            "--method.multi_label is for recipes/finetune.py, which also trains from random weights: use it."
        )
    session = Session(config.run, config)
    with session.accelerator.main_process_first():  # one process fills the cache, the others read it
        clips = cache_clips(open_clips(config.data), config.data)
    training, validation = clips.split("training"), clips.split("validation")
    taught = labelled_clips(training, config.method.labels_per_class, config.run.seed, config.method.label_share)
    told = f"with {len(set(taught.ids))} labels of {len(set(taught.labels))} classes"
    session.say(f"{clips.name}: {len(training)} training clips, {told}")
    loader = training_loader(taught, config.run.batch_size, config.run.workers)
    encoder, views, method = build(config, training, taught)
    session.start_from(method)
    optimizer = build_optimizer(method, config.optim)
    encoder.to(session.device)
    augment = open_augment(config.wave, training.sample_rate).to(session.device)
    labels = torch.from_numpy(taught.label_ids).to(session.device)
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    session.resume()

    learner: Supervised = session.unwrap(method)
    knn = OnlineKNN(clips)
    total, per_epoch = session.total_steps(loader), session.steps_per_epoch(loader)
    clips_per_step = config.run.batch_size * config.run.accumulate * session.processes
    for epoch in session.epochs():
        method.train()
        for step, batch in session.steps(loader, epoch):
            set_rates(optimizer, rates(config.optim, step.index, total, per_epoch, clips_per_step))
            with session.accumulate(method):
                heard = augment.copies(batch.wave, 2, step.generator)
                pictures = [encoder.image(wave) for wave in heard]
                out = method(views(pictures, step.generator), labels[batch.index])
                session.backward(out.loss)
                if session.synced and config.optim.clip_grad:
                    session.clip(learner.parameters(), config.optim.clip_grad, config.optim.clip_each)
                optimizer.step()
                optimizer.zero_grad()
            session.log(step, out.logs)
        seen = monitor(session, encoder, knn, epoch)
        if seen and (validation.label_ids >= 0).any():
            seen["validation_accuracy"] = classifier_accuracy(encoder, learner.head, validation)
        session.end_epoch(epoch, seen)
    session.finish()
    if session.is_main:
        conclude(session, encoder, views, clips, config.probe, told, accuracies(encoder, learner, clips))


@errors_for_people
def run() -> None:
    """Read the command line and run."""
    main(parse(Config, __file__, preset="small"))


if __name__ == "__main__":
    run()
