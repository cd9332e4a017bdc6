"""EMP-SSL: the loss by its formulas, groups of patches, a projector that stands still, and what can go wrong."""

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from audiossl.transforms import Patches, PatchesConfig
from audiossl.transforms.views import Views

from audiossl.backbones import BackboneConfig
from audiossl.bag import BagOfPatches
from audiossl.bag_config import BagConfig
from audiossl.errors import UserError
from audiossl.losses.coding_rate import collapse_coding_rate, max_coding_rate
from audiossl.methods.emp_ssl import EmpSsl, EmpSslConfig

SIZE = (32, 48)
PATCHES = PatchesConfig(n_patches=5, patch_s=0.35, fader=0.0, mixup=0.0)
BAG = BagConfig(n_patches=4, feature_dim=24, projection_dim=16)


def a_method(bag=BAG, network="resnet10", **changes):
    torch.manual_seed(0)
    stages = 2 if network == "resnet10" else 0
    parts = BagOfPatches(BackboneConfig(network, stages=stages), bag, PATCHES, SIZE, 1.0)
    return EmpSsl(parts, EmpSslConfig(**changes))


def some_patches(n_clips=6, **changes):
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(n_clips, 1, *SIZE, generator=generator)
    return Patches(replace(PATCHES, **changes), SIZE, 1.0)(image, generator)


def plain_parts(z, eps):
    """Mean cosine to the mean and mean coding rate, clip by clip and patch by patch, in float64."""
    z = z.double()
    n_patches, n_clips, d = z.shape
    cosines = [
        torch.cosine_similarity(z[p, b], z[:, b].mean(0), dim=0) for p in range(n_patches) for b in range(n_clips)
    ]
    rates = [0.5 * torch.logdet(torch.eye(d) + d / (n_clips * eps) * z[p].T @ z[p]) for p in range(n_patches)]
    return torch.stack(cosines).mean(), torch.stack(rates).mean()


@pytest.mark.parametrize(("unit", "weight"), [("max_rate", 1.01), ("absolute", 200.0)])
def test_the_loss_is_the_papers(unit, weight):
    method, views = a_method(unit=unit, invariance=weight).eval(), some_patches()
    with torch.no_grad():
        out, z = method(views), method.project(views)
    assert z.shape == (5, 6, 16)
    alike, rate = plain_parts(z, 0.2)
    factor = weight * (max_coding_rate(6, 16, 0.2) if unit == "max_rate" else 1.0)
    assert out.loss.item() == pytest.approx(-(rate + factor * alike).item(), rel=1e-5)
    assert out.logs["coding_rate"].item() == pytest.approx(rate.item(), rel=1e-5)
    least, most = collapse_coding_rate(16, 0.2), max_coding_rate(6, 16, 0.2)
    # A share of what is left above collapse, here next to nothing: in float32 a difference of two equal digits.
    assert out.logs["rate_share"].item() == pytest.approx((rate.item() - least) / (most - least), abs=1e-6)


def test_the_potential_in_its_place():
    method, views = a_method(spread="uniformity", invariance=1.5).eval(), some_patches()
    with torch.no_grad():
        out, z = method(views), method.project(views)
    means = z.mean(0)
    pairs = [torch.exp(-2 * (means[i] - means[j]).square().sum()) for i in range(6) for j in range(i)]
    expected = math.log(torch.stack(pairs).mean()) - 1.5 * plain_parts(z, 0.2)[0].item()
    assert out.loss.item() == pytest.approx(expected, rel=1e-5)


def test_training_raises_rate_and_likeness():
    method, views = a_method().train(), some_patches(16)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9)
    first = last = method(views)
    for _ in range(25):
        optimizer.zero_grad()
        last.loss.backward()
        optimizer.step()
        last = method(views)
    assert last.loss < first.loss - 1.0
    assert last.logs["invariance"] > first.logs["invariance"]


@pytest.mark.parametrize("n_groups", [2, 3, 5, 9])
def test_groups_give_the_same_loss_and_gradients_where_no_batch_norm_looks_across(n_groups):
    bag = replace(BAG, batch_norm=False)
    whole, grouped = a_method(bag, "vit_tiny"), a_method(bag, "vit_tiny", groups=n_groups)
    views = some_patches()
    losses = [method.train()(views).loss for method in (whole, grouped)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    gradients = [
        torch.autograd.grad(loss, list(m.parameters()), allow_unused=True)
        for loss, m in zip(losses, (whole, grouped), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_groups_count_every_patch_once_in_the_batch_norms():
    seen_once = a_method(groups=5)
    views = some_patches()
    reference = a_method().train()
    (images,) = views.images
    with torch.no_grad():
        for group in images.unflatten(0, (5, 6)):
            reference.projector(reference.bag.of_patches(group))
    seen_once.train()(views).loss.backward()
    expected = dict(reference.named_buffers())
    for name, value in seen_once.named_buffers():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_a_trained_projector_stands_still_and_another_shape_is_refused():
    trained, method = a_method().train(), a_method().train()
    trained(some_patches())
    with torch.no_grad():
        for parameter in trained.projector.parameters():
            parameter.add_(0.1)
    method.take_projector(trained.state_dict(), "runs/first")
    kept = {name: value.clone() for name, value in method.projector.state_dict().items()}
    method.train()(some_patches()).loss.backward()
    assert all(parameter.grad is None for parameter in method.projector.parameters())
    assert method.bag.head[0].weight.grad is not None
    for name, value in method.projector.state_dict().items():
        assert value.equal(kept[name]), name
        assert value.equal(trained.projector.state_dict()[name]), name
    with pytest.raises(UserError, match=r"--method\.projector runs/first has a projector of other shapes"):
        a_method(replace(BAG, projection_dim=8)).take_projector(trained.state_dict(), "runs/first")
    with pytest.raises(UserError, match="has no projector"):
        method.take_projector({"bag.x": torch.zeros(1)}, "runs/esvit")


def test_a_projector_that_is_the_output_is_the_encoders():
    method = a_method(replace(BAG, output="projection"))
    assert method.projector is method.bag.projector
    assert len(list(method.parameters())) == len({id(p) for p in method.parameters()})
    with torch.no_grad():
        assert method.eval().encoder(torch.randn(2, 1, *SIZE)).features.shape == (2, 16)


@pytest.mark.parametrize("n_patches", [1, 200])
@pytest.mark.parametrize("n_clips", [1, 3])
def test_one_patch_and_two_hundred_one_clip_and_few(n_patches, n_clips):
    # A batch norm cannot train on one row; EMP-SSL without one can.
    bag = replace(BAG, batch_norm=n_patches * n_clips > 1)
    out = a_method(bag).train()(some_patches(n_clips, n_patches=n_patches))
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(value.isfinite() for value in out.logs.values())


def test_weights_of_another_network_are_refused_by_name():
    method = a_method()
    method.start_from(a_method().state_dict())
    with pytest.raises(UserError, match=r"--run\.start_from: \d+ tensors of that run do not fit"):
        method.start_from(a_method(replace(BAG, feature_dim=8)).state_dict())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"eps": 0.0}, r"--method\.eps must be above 0, found 0"),
        ({"groups": 0}, r"--method\.groups must be at least 1, found 0"),
        ({"invariance": -1.0}, r"--method\.invariance must be 0 or more, found -1"),
    ],
)
def test_impossible_settings_name_their_flag(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        EmpSslConfig(**settings)


def test_patches_of_silence_collapse_and_the_logs_show_it():
    method = a_method().train()
    silence = Views([torch.zeros(5 * 6, 1, 32, 16)], torch.zeros(5, 6, 4))
    logs = method(silence).logs
    assert logs["coding_rate"].item() == pytest.approx(collapse_coding_rate(16, 0.2), rel=1e-3)
    assert logs["rate_share"].abs() < 1e-3
    assert logs["invariance"].item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.distributed
@pytest.mark.parametrize(("spread", "groups"), [("coding_rate", "1"), ("uniformity", "2")])
def test_two_ranks_are_one_process(tmp_path, spread, groups):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    script = Path(__file__).with_name("emp_ssl_rank.py")
    started = [
        subprocess.Popen(
            [sys.executable, script, tmp_path / f"{name}.pt", spread, groups], env={**os.environ, **environment}
        )
        for name, environment in (("two", {"RANK": "0", **world}), ("two", {"RANK": "1", **world}), ("one", {}))
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    one, two = (torch.load(tmp_path / name) for name in ("one.pt", "two.pt"))
    torch.testing.assert_close(two["loss"], one["loss"], atol=1e-4, rtol=1e-5)
    assert one["loss"][-1] < one["loss"][0]
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, atol=1e-5, rtol=1e-3, msg=name)
