"""EsViT on Speech Commands, or on any folder of audio: pretrain without labels, then say what it is worth.

A student sees two large and several small views of every clip and learns to give them, and their regions, the
prototypes that a slowly following teacher sees in the others. Li et al., Efficient Self-supervised Vision
Transformers for Representation Learning, ICLR 2022. Only the monitors and the final table look at labels.

    accelerate launch recipes/esvit_speechcommands.py                            # synthetic words, no download
    accelerate launch recipes/esvit_speechcommands.py --data.root FOLDER --run.out runs/mine
    accelerate launch --multi_gpu --num_processes 8 recipes/esvit_speechcommands.py --data.root SPEECH_COMMANDS
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 recipes/esvit_speechcommands.py

What to expect, with floors and seeds: docs/esvit.md. What the curves mean: docs/reading-a-run.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.transforms import FrontEndConfig, MelConfig, MultiCrop, MultiCropConfig, WaveAugmentConfig

from audiossl.backbones import BackboneConfig
from audiossl.config import parse
from audiossl.data import CachedClips, DataConfig, cache_clips, open_augment, open_clips, training_loader
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError, errors_for_people
from audiossl.methods.esvit import EsViT, EsViTConfig
from audiossl.optim import OptimConfig, build_optimizer, rates, set_rates
from audiossl.probes.config import ProbeTableConfig
from audiossl.run.begin import new_encoder
from audiossl.run.conclude import conclude
from audiossl.run.config import RunConfig
from audiossl.run.monitors import OnlineKNN, monitor
from audiossl.run.session import Session
from audiossl.schedules import cosine, linear_warmup


@dataclass
class Config:
    """Everything that decides a run: the preset's values (`small` unless another is named), then flags."""

    data: DataConfig = field(default_factory=DataConfig)
    wave: WaveAugmentConfig = field(default_factory=WaveAugmentConfig)
    frontend: FrontEndConfig = field(default_factory=MelConfig)
    views: MultiCropConfig = field(default_factory=MultiCropConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    method: EsViTConfig = field(default_factory=EsViTConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(out="runs/esvit_speechcommands"))
    probe: ProbeTableConfig = field(default_factory=ProbeTableConfig)


def build(config: Config, training: CachedClips) -> tuple[AudioEncoder, MultiCrop, EsViT]:
    """The encoder that will be kept, the views, and the method around a student of the same network."""
    if config.method.region_matching == "overlap" and (config.wave.shift_s or config.wave.speed):
        raise UserError(
            "--method.region_matching overlap knows where the views were cut, not how --wave.shift_s and --wave.speed "
            "move the sound before: leave those out, or take argmax."
        )
    encoder = new_encoder(config.frontend, config.backbone, training)
    views = MultiCrop(config.views, encoder.image_size, training.clip_s)
    learned = encoder.frontend if list(encoder.frontend.parameters()) else None
    method = EsViT(encoder.network, config.method, learned, training.clip_s)
    encoder.backbone = method.encoder  # the teacher's
    return encoder, views, method


def main(config: Config) -> None:
    """Pretrain, keep the encoder, print and write what it is worth."""
    session = Session(config.run, config)
    with session.accelerator.main_process_first():  # one process fills the cache, the others read it
        clips = cache_clips(open_clips(config.data), config.data)
    training = clips.split("training")
    loader = training_loader(training, config.run.batch_size, config.run.workers)
    encoder, views, method = build(config, training)
    session.start_from(method)
    optimizer = build_optimizer(method, config.optim)
    encoder.to(session.device)
    augment = open_augment(config.wave, training.sample_rate).to(session.device)
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    session.resume()

    learner: EsViT = session.unwrap(method)
    knn = OnlineKNN(clips)
    total, per_epoch = session.total_steps(loader), session.steps_per_epoch(loader)
    clips_per_step = config.run.batch_size * config.run.accumulate * session.processes
    warmup = round(config.method.teacher_temperature_epochs * per_epoch)
    for epoch in session.epochs():
        method.train()
        for step, batch in session.steps(loader, epoch):
            set_rates(optimizer, rates(config.optim, step.index, total, per_epoch, clips_per_step))
            temperature = linear_warmup(
                step.index, warmup, config.method.teacher_temperature, config.method.teacher_temperature_end
            )
            momentum = cosine(step.index, total, config.method.momentum, config.method.momentum_end)
            with session.accumulate(method):
                heard = augment.copies(batch.wave, 2, step.generator)
                pictures = [encoder.image(wave) for wave in heard]
                out = method(views(pictures, step.generator), temperature)
                session.backward(out.loss)
                if session.synced:
                    if step.index < config.method.freeze_last_layer_epochs * per_epoch:
                        for prototypes in learner.prototypes():
                            prototypes.grad = None
                    if config.optim.clip_grad:
                        session.clip(learner.parameters(), config.optim.clip_grad, config.optim.clip_each)
                optimizer.step()
                optimizer.zero_grad()
            if session.synced:
                learner.update_teacher(momentum)
            session.log(step, {**out.logs, "momentum": momentum, "teacher_temperature": temperature})
        session.end_epoch(epoch, monitor(session, encoder, knn, epoch))
    session.finish()
    if session.is_main:
        conclude(session, encoder, views, clips, config.probe)


@errors_for_people
def run() -> None:
    """Read the command line and run."""
    main(parse(Config, __file__, preset="small"))


if __name__ == "__main__":
    run()
