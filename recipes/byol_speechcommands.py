"""BYOL on Speech Commands, or on any folder of audio: predict what a slow teacher makes of another view of the clip.

Grill et al., Bootstrap Your Own Latent, 2020; BYOL-A (Niizumi et al., 2021 and 2023) and SimSiam (Chen and He, 2021)
are presets. Only the monitors and the final table look at labels.

    accelerate launch recipes/byol_speechcommands.py                            # synthetic words, no download
    accelerate launch recipes/byol_speechcommands.py --data.root FOLDER --run.out runs/mine
    accelerate launch recipes/byol_speechcommands.py --preset byola_v2 --data.root FOLDER
    accelerate launch recipes/byol_speechcommands.py --preset simsiam --data.root FOLDER
    accelerate launch --multi_gpu --num_processes 8 recipes/byol_speechcommands.py --data.root SPEECH_COMMANDS

The presets, and what to expect of them, with floors and seeds: docs/byol.md. What the curves mean:
docs/reading-a-run.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.transforms import FrontEndConfig, MelConfig, TwoViews, TwoViewsConfig, WaveAugmentConfig

from audiossl.backbones import BackboneConfig
from audiossl.config import parse
from audiossl.data import CachedClips, DataConfig, cache_clips, open_augment, open_clips, training_loader
from audiossl.encoder import AudioEncoder
from audiossl.errors import errors_for_people
from audiossl.methods.byol import Byol, ByolConfig
from audiossl.optim import OptimConfig, build_optimizer, rates, set_rates
from audiossl.probes.config import ProbeTableConfig
from audiossl.run.begin import new_encoder
from audiossl.run.conclude import conclude
from audiossl.run.config import RunConfig
from audiossl.run.monitors import OnlineKNN, monitor
from audiossl.run.session import Session
from audiossl.schedules import cosine


@dataclass
class Config:
    """Everything that decides a run: the preset's values (`small` unless another is named), then flags."""

    data: DataConfig = field(default_factory=DataConfig)
    wave: WaveAugmentConfig = field(default_factory=WaveAugmentConfig)
    frontend: FrontEndConfig = field(default_factory=MelConfig)
    views: TwoViewsConfig = field(default_factory=TwoViewsConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    method: ByolConfig = field(default_factory=ByolConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(out="runs/byol_speechcommands"))
    probe: ProbeTableConfig = field(default_factory=ProbeTableConfig)


def build(config: Config, training: CachedClips) -> tuple[AudioEncoder, TwoViews, Byol]:
    """The encoder that will be kept, the two views, and the method around a student of the same network."""
    encoder = new_encoder(config.frontend, config.backbone, training)
    views = TwoViews(config.views, encoder.image_size, training.clip_s, encoder.frontend.n_channels)
    learned = encoder.frontend if list(encoder.frontend.parameters()) else None
    return encoder, views, Byol(encoder.network, config.method, learned)


def main(config: Config) -> None:
    """Pretrain, keep the encoder, print and write what it is worth."""
    session = Session(config.run, config)
    with session.accelerator.main_process_first():  # one process fills the cache, the others read it
        clips = cache_clips(open_clips(config.data), config.data)
    training = clips.split("training")
    loader = training_loader(training, config.run.batch_size, config.run.workers)
    encoder, views, method = build(config, training)
    session.start_from(method)
    constant = method.predictor if config.method.constant_predictor_rate else None
    optimizer = build_optimizer(method, config.optim, constant)
    encoder.to(session.device)
    views.to(session.device)
    augment = open_augment(config.wave, training.sample_rate).to(session.device)
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    session.keep(views)  # past clips, for backgrounds
    session.resume()

    learner: Byol = session.unwrap(method)
    knn = OnlineKNN(clips)
    total, per_epoch = session.total_steps(loader), session.steps_per_epoch(loader)
    clips_per_step = config.run.batch_size * config.run.accumulate * session.processes
    for epoch in session.epochs():
        method.train()
        for step, batch in session.steps(loader, epoch):
            set_rates(optimizer, rates(config.optim, step.index, total, per_epoch, clips_per_step))
            momentum = cosine(step.index, total, config.method.momentum, config.method.momentum_end)
            with session.accumulate(method):
                heard = augment.copies(batch.wave, 2, step.generator)
                pictures = [encoder.image(wave) for wave in heard]
                out = method(views(pictures, step.generator))
                session.backward(out.loss)
                if session.synced and config.optim.clip_grad:
                    session.clip(learner.parameters(), config.optim.clip_grad, config.optim.clip_each)
                optimizer.step()
                optimizer.zero_grad()
            if session.synced:
                learner.update_teacher(momentum)
            session.log(step, {**out.logs, "momentum": momentum})
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
