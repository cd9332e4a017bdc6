"""EMP-SSL on Speech Commands, or on any folder of audio: many patches of every clip, few epochs, no teacher.

All patches of a clip shall look alike to a network, and the clips of a batch shall fill the space: the coding rate is
made large. Tong et al., EMP-SSL: Towards Self-Supervised Learning in One Training Epoch, 2023. What "one epoch" costs,
counted in passes of the network, and what it gives beside EsViT: docs/emp_ssl.md.

    accelerate launch recipes/emp_ssl_speechcommands.py                            # synthetic words, no download
    accelerate launch recipes/emp_ssl_speechcommands.py --data.root FOLDER --run.out runs/mine
    accelerate launch recipes/emp_ssl_speechcommands.py --preset paper --data.root FOLDER
    accelerate launch --multi_gpu --num_processes 8 recipes/emp_ssl_speechcommands.py --data.root SPEECH_COMMANDS

A run has three stages: pretraining, features of all clips, probes. Given again with `--run.resume`, it goes on where it
was, and does nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.transforms import FrontEndConfig, MelConfig, Patches, PatchesConfig, WaveAugmentConfig

from audiossl.backbones import BackboneConfig
from audiossl.bag_config import BagConfig
from audiossl.config import parse
from audiossl.data import CachedClips, DataConfig, cache_clips, open_augment, open_clips, training_loader
from audiossl.encoder import AudioEncoder
from audiossl.errors import errors_for_people
from audiossl.methods.emp_ssl import EmpSsl, EmpSslConfig
from audiossl.optim import OptimConfig, build_optimizer, rates, set_rates
from audiossl.probes.config import ProbeTableConfig
from audiossl.run.begin import new_encoder
from audiossl.run.checkpoint import refuse_other_setting, weights_of_run
from audiossl.run.conclude import conclude
from audiossl.run.config import RunConfig
from audiossl.run.monitors import OnlineKNN, monitor
from audiossl.run.session import Session


@dataclass
class Config:
    """Everything that decides a run: the preset's values (`small` unless another is named), then flags."""

    data: DataConfig = field(default_factory=DataConfig)
    wave: WaveAugmentConfig = field(default_factory=WaveAugmentConfig)
    frontend: FrontEndConfig = field(default_factory=MelConfig)
    views: PatchesConfig = field(default_factory=PatchesConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    bag: BagConfig = field(default_factory=BagConfig)
    method: EmpSslConfig = field(default_factory=EmpSslConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(out="runs/emp_ssl_speechcommands"))
    probe: ProbeTableConfig = field(default_factory=ProbeTableConfig)


def build(config: Config, training: CachedClips) -> tuple[AudioEncoder, Patches, EmpSsl]:
    """The encoder that will be kept, the patches it learns from, and the method around it."""
    encoder = new_encoder(config.frontend, config.backbone, training, config.bag, config.views)
    patches = Patches(config.views, encoder.image_size, training.clip_s)
    learned = encoder.frontend if list(encoder.frontend.parameters()) else None
    return encoder, patches, EmpSsl(encoder.bag, config.method, learned)


def main(config: Config) -> None:
    """Pretrain, keep the encoder, print and write what it is worth."""
    session = Session(config.run, config)
    with session.accelerator.main_process_first():  # one process fills the cache, the others read it
        clips = cache_clips(open_clips(config.data), config.data)
    training = clips.split("training")
    loader = training_loader(training, config.run.batch_size, config.run.workers)
    encoder, patches, method = build(config, training)
    session.start_from(method)
    if config.method.projector is not None:
        refuse_other_setting(config.method.projector, "--method.projector", "bag.activation", config.bag.activation)
        method.take_projector(weights_of_run(config.method.projector, "--method.projector"), config.method.projector)
    optimizer = build_optimizer(method, config.optim)
    encoder.to(session.device)
    augment = open_augment(config.wave, training.sample_rate).to(session.device)
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    session.resume()

    learner: EmpSsl = session.unwrap(method)
    knn = OnlineKNN(clips)
    total, per_epoch = session.total_steps(loader), session.steps_per_epoch(loader)
    clips_per_step = config.run.batch_size * config.run.accumulate * session.processes
    for epoch in session.epochs():
        method.train()
        for step, batch in session.steps(loader, epoch):
            set_rates(optimizer, rates(config.optim, step.index, total, per_epoch, clips_per_step))
            with session.accumulate(method):
                picture = encoder.image(augment(batch.wave, step.generator))
                out = method(patches(picture, step.generator))
                session.backward(out.loss)
                if session.synced and config.optim.clip_grad:
                    session.clip(learner.parameters(), config.optim.clip_grad, config.optim.clip_each)
                optimizer.step()
                optimizer.zero_grad()
            session.log(step, out.logs)
        session.end_epoch(epoch, monitor(session, encoder, knn, epoch))
    session.finish()
    if session.is_main:
        conclude(session, encoder, patches, clips, config.probe)


@errors_for_people
def run() -> None:
    """Read the command line and run."""
    main(parse(Config, __file__, preset="small"))


if __name__ == "__main__":
    run()
