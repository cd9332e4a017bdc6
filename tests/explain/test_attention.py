from __future__ import annotations

import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig
from PIL import Image

from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.explain import attention_page
from audiossl.explain.attention import (
    CLASS_TOKEN,
    NO_CELL,
    _swin_tokens,
    attention,
    attention_of_blocks,
    entropy_bits,
    mass_mask,
)
from audiossl.explain.attention_page import examine_attention, packed, query_step
from audiossl.explain.attention_pictures import outline, write_attention_pictures
from audiossl.explain.sound import Sound


def build(name, n_bins=64, clip_s=1.0, seed=0, **settings):
    torch.manual_seed(seed)
    config = EncoderConfig(MelConfig(n_bins=n_bins), BackboneConfig(name, **settings), clip_s)
    encoder = AudioEncoder.build(config).eval()
    with torch.no_grad():  # random weights look everywhere alike: let them be told apart
        for module in encoder.modules():
            if hasattr(module, "qkv"):
                module.qkv.weight.mul_(8)
                module.qkv.bias.normal_()
            if hasattr(module, "relative_position_bias_table"):
                module.relative_position_bias_table.normal_()
    return encoder


def sound(n_samples):
    return torch.randn(n_samples, generator=torch.Generator().manual_seed(1)) * 0.1


def plain_rows(x, module, bias):
    """Softmax of q k' + bias over all pairs of tokens (N, D); bias (heads, N, N)."""
    n, heads = len(x), module.num_heads
    q, k, _ = (x @ module.qkv.weight.T + module.qkv.bias).reshape(n, 3, heads, -1).permute(1, 2, 0, 3)
    return (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5 + bias).softmax(-1)


def swin_by_pairs(block, x):
    """Attention (heads, P, P) of a Swin block over its grid x (F', T', D), from a mask of all pairs of cells."""
    rows, columns = x.shape[:2]
    window, shift = block.window_size, block.shift_size
    place = [(r, c) for r in range(rows) for c in range(columns)]
    length = [-(-n // w) * w for n, w in zip((rows, columns), window, strict=True)]
    table = block.attn.relative_position_bias_table
    bias = torch.full((block.attn.num_heads, len(place), len(place)), -torch.inf)

    def group(cell):
        """Window of a cell in the rolled grid, and whether rolling took it across the edge, on both axes."""
        rolled = [(cell[i] - shift[i]) % length[i] for i in (0, 1)]
        return [(rolled[i] // window[i], cell[i] < shift[i]) for i in (0, 1)]

    for a, first in enumerate(place):
        for b, second in enumerate(place):
            if group(first) == group(second):
                dr, dc = first[0] - second[0] + window[0] - 1, first[1] - second[1] + window[1] - 1
                bias[:, a, b] = table[dr * (2 * window[1] - 1) + dc]
    return plain_rows(block.norm1(x).flatten(0, 1), block.attn, bias)


@torch.no_grad()
def inputs_of(encoder, wave, modules):
    seen = {}
    hooks = [m.register_forward_pre_hook(lambda m, x: seen.__setitem__(m, x[0][0])) for m in modules]
    encoder(wave[None])
    for hook in hooks:
        hook.remove()
    return [seen[module] for module in modules]


# 64 x 96 points without padding; then sides that the patch, the window, or the merging of patches does not divide.
@pytest.mark.parametrize(("n_bins", "n_samples"), [(64, 16000), (64, 5200), (48, 12345), (40, 20000)])
def test_a_swins_maps_are_those_of_all_pairs_of_cells(n_bins, n_samples):
    encoder, wave = build("swin_micro", n_bins), sound(n_samples)
    found = attention_of_blocks(encoder, wave)
    modules = [dict(encoder.backbone.net.named_modules())[block.name] for block in found]
    shifted = 0
    for block, module, x in zip(found, modules, inputs_of(encoder, wave, modules), strict=True):
        assert block.cells.grid == x.shape[:2]
        shifted += any(module.shift_size)
        with torch.no_grad():
            plain = swin_by_pairs(module, x).numpy()
        for cell in range(plain.shape[1]):
            at = block.map(cell)
            weights = at.weights.reshape(block.n_heads, -1)
            np.testing.assert_allclose(np.nan_to_num(weights), plain[:, cell], atol=1e-5)
            np.testing.assert_array_equal(np.isnan(weights), plain[:, cell] == 0)
            np.testing.assert_allclose(np.nansum(weights, 1), 1.0, atol=1e-5)
            np.testing.assert_allclose(at.elsewhere, 0.0, atol=1e-6)
    assert shifted >= 2


@pytest.mark.parametrize(("n_bins", "n_samples"), [(64, 16000), (40, 12345)])
def test_a_vits_maps_are_those_of_all_pairs_of_tokens(n_bins, n_samples):
    encoder, wave = build("vit_tiny", n_bins), sound(n_samples)
    found = attention_of_blocks(encoder, wave)
    assert len(found) == 12
    modules = [dict(encoder.backbone.net.named_modules())[f"{block.name}.attn"] for block in found]
    for block, module, x in zip(found, modules, inputs_of(encoder, wave, modules), strict=True):
        with torch.no_grad():
            plain = plain_rows(x, module, torch.zeros(())).numpy()
        for cell in (CLASS_TOKEN, 0, 5, block.cells.grid[0] * block.cells.grid[1] - 1):
            at = block.map(cell)
            np.testing.assert_allclose(at.weights.reshape(3, -1), plain[:, cell + 1, 1:], atol=1e-5)
            np.testing.assert_allclose(at.elsewhere, plain[:, cell + 1, 0], atol=1e-5)
            np.testing.assert_allclose(at.weights.sum((1, 2)) + at.elsewhere, 1.0, atol=1e-5)
        assert block.map(CLASS_TOKEN).query is None


@pytest.mark.parametrize("shift", [(0, 0), (2, 3), (0, 1)])
def test_cutting_into_windows_and_back_is_a_permutation(shift):
    tokens = _swin_tokens((7, 10), (4, 6), shift)
    assert tokens.shape == (4, 24)
    cells = tokens[tokens != NO_CELL]
    assert sorted(cells.tolist()) == list(range(70))
    # The tokens' own windows, put back and rolled back, are the grid with its padding behind it.
    grid = tokens.reshape(2, 2, 4, 6).permute(0, 2, 1, 3).reshape(8, 12).roll(shift, (0, 1))
    assert torch.equal(grid[:7, :10], torch.arange(70).reshape(7, 10))
    assert (grid[7:] == NO_CELL).all()
    assert (grid[:, 10:] == NO_CELL).all()


def test_a_block_that_looks_one_cell_up_does_so_in_the_picture_and_a_random_one_does_not():
    def loudest_neighbours(encoder):
        """Share of cells, not at a window's edge, whose map has its maximum one cell above in every head."""
        hits = []
        for block in attention_of_blocks(encoder, sound(16000))[2:6]:  # stage 2, with and without shift
            columns = block.cells.grid[1]
            for cell in range(block.cells.grid[0] * columns - columns):
                weights = block.map(cell).weights.reshape(block.n_heads, -1)
                if np.isfinite(weights[:, cell + columns]).all():
                    hits.append((np.nanargmax(weights, 1) == cell + columns).all())
        return np.mean(hits)

    looking = build("swin_micro")
    with torch.no_grad():
        for module in looking.modules():
            if hasattr(module, "relative_position_bias_table"):
                up, across = module.window_size  # key one row above the query: difference -1 in rows, 0 in columns
                module.relative_position_bias_table.zero_()
                module.relative_position_bias_table[(up - 2) * (2 * across - 1) + across - 1] = 100.0
    assert loudest_neighbours(looking) == 1.0
    assert loudest_neighbours(build("swin_micro", seed=1)) < 0.1


def test_published_swins_look_at_padding_and_the_map_says_so():
    encoder = build("swin_tiny", published=True)
    for block in attention_of_blocks(encoder, sound(16000)):
        at = block.map(3)
        np.testing.assert_allclose(np.nansum(at.weights, (1, 2)) + at.elsewhere, 1.0, atol=1e-5)
    assert at.elsewhere.min() > 0  # 2 x 3 cells in a window of 7 x 7


@pytest.mark.parametrize("name", ["swin_micro", "vit_tiny"])
def test_the_encoder_is_left_as_it_was(name):
    encoder, wave = build(name), sound(16000)
    encoder.train()
    encoder.frontend.eval()
    modes = [module.training for module in encoder.modules()]
    fused = {m: m.fused_attn for m in encoder.modules() if hasattr(m, "fused_attn")}
    before = encoder.eval()(wave[None])
    encoder.train()
    encoder.frontend.eval()
    attention(encoder, wave, query=(0.3, 900.0))
    assert [module.training for module in encoder.modules()] == modes
    assert all(module.fused_attn == was for module, was in fused.items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in encoder.modules())
    assert torch.equal(encoder.eval()(wave[None]), before)


def test_attention_is_that_of_eval_mode_and_takes_int16():
    encoder, wave = build("swin_micro", drop_path=0.5), sound(16000)
    plain = attention(encoder.eval(), wave, block=3, query=(0.5, 500.0))
    np.testing.assert_array_equal(attention(encoder.train(), wave, 3, None, (0.5, 500.0)).weights, plain.weights)
    one = attention(encoder, wave[None], block=3, head=2, query=(0.5, 500.0))
    np.testing.assert_array_equal(one.weights, plain.weights[2:3])
    rounded = attention(encoder, (wave * 32767).to(torch.int16).numpy(), 3, 2, (0.5, 500.0))
    np.testing.assert_allclose(rounded.weights, one.weights, atol=0.05)


def test_cells_lie_where_the_encoder_says():
    for name in ("swin_micro", "vit_tiny"):
        encoder, wave = build(name, 40), sound(12345)
        patches = encoder.patches(wave[None])
        cells = attention_of_blocks(encoder, wave)[-1].cells
        assert cells.grid == patches.grid
        np.testing.assert_allclose(cells.centres_s, patches.centres_s, atol=1e-5)
        np.testing.assert_allclose(cells.centres_hz, patches.centres_hz, rtol=1e-5)
        for cell in range(cells.grid[0] * cells.grid[1]):
            assert cells.at(*cells.place(cell)) == cell or cells.grid[0] * cells.stride[0] > 40


def test_a_query_finds_its_cell_at_every_depth():
    found = attention_of_blocks(build("swin_micro"), sound(16000))
    assert [block.cells.grid for block in found] == [(16, 24)] * 2 + [(8, 12)] * 4 + [(4, 6)] * 2
    for block in found:
        at = block.map(block.cells.at(0.61, 1500.0))
        row = block.cells.at(0.61, 1500.0) // block.cells.grid[1]
        low, high = block.cells.bands[row]
        assert low <= 1500 <= high
        assert abs(at.query[0] - 0.61) <= block.cells.stride[1] * block.cells.frame_s / 2


def test_masks_and_entropy():
    weights = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    weights[:, 0] = np.nan
    mask = mass_mask(weights)
    for head, kept in zip(weights, mask, strict=True):
        total = np.nansum(head)
        assert head[kept].sum() >= 0.6 * total
        assert head[kept].sum() - head[kept].min() < 0.6 * total  # none too many
        assert head[kept].min() >= np.nanmax(head[~kept])
    assert entropy_bits(np.ones((1, 4, 4))) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("resnet10", {"query": (0.5, 500.0)}, ["backbone resnet10 has no attention", "Swin"]),
        ("timm/convnext_atto", {"query": (0.5, 500.0)}, ["timm/convnext_atto"]),
        ("timm/swinv2_cr_tiny_224", {"query": (0.5, 500.0)}, ["timm/swinv2_cr_tiny_224"]),
        ("swin_micro", {"block": 8, "query": (0.5, 500.0)}, ["block=8", "0 to 7"]),
        ("swin_micro", {"head": 8, "query": (0.5, 500.0)}, ["head=8", "0 to 7"]),
        ("swin_micro", {}, ["query=None", "class token"]),
        ("swin_micro", {"query": (1.5, 500.0)}, ["second=1.5", "outside of the clip"]),
        ("swin_micro", {"query": (0.5, 9000.0)}, ["hz=9000", "outside of the picture"]),
    ],
)
def test_mistakes_are_named(name, arguments, words):
    encoder = AudioEncoder.build(EncoderConfig(MelConfig(n_bins=64), BackboneConfig(name)))
    with pytest.raises(UserError) as caught:
        attention(encoder, torch.zeros(16000), **arguments)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("name", "step"), [("swin_micro", 1), ("vit_tiny", 1), ("vit_tiny", 4)])
def test_the_page_holds_every_map_to_a_byte(name, step):
    encoder = build(name)
    for block in attention_of_blocks(encoder, sound(16000))[-3:]:
        arrays = packed(block, step)
        rows, columns = block.cells.grid
        queries = [r * columns + c for r in range(rows) for c in range(0, columns, step)]
        queries += [CLASS_TOKEN] * (name == "vit_tiny")
        assert len(arrays["windows"]) == len(queries)
        for q, cell in enumerate(queries):
            drawn = np.full((block.n_heads, rows * columns), np.nan)
            for key, target in enumerate(arrays["tokens"][arrays["windows"][q]]):
                level = arrays["weights"][q, :, key].astype(float)
                if target >= 0 and level.all():
                    drawn[:, target] = (level - 1) / 254 * arrays["peaks"][q]
            plain = block.map(cell).weights.reshape(block.n_heads, -1)
            np.testing.assert_allclose(drawn, plain, atol=plain[np.isfinite(plain)].max() / 500)


def test_long_clips_keep_fewer_queries(monkeypatch):
    blocks = attention_of_blocks(build("vit_tiny"), sound(16000))
    assert query_step(blocks) == 1
    monkeypatch.setattr(attention_page, "MOST_BYTES", 12 * 3 * 25 * 4 * 3)  # 12 blocks, 3 heads, 25 keys, 4 x 3 queries
    assert query_step(blocks) == 2


def test_pictures_show_heads_by_entropy_and_where_their_mass_lies(tmp_path):
    heard = Sound("a.wav", sound(16000).numpy(), 16000, 0.0, 1.0, 16000, 1)
    shown = examine_attention(build("swin_micro"), "x", heard, 0.4, 700.0)
    paths = write_attention_pictures(tmp_path / "new", shown.picture, shown.blocks[-2:], shown.query)
    assert [path.name for path in paths] == [
        f"{kind}_{n}.png" for n in (0, 1) for kind in ("attn_all", "attn_masked_all")
    ]
    assert all(Image.open(path).size[0] > 1000 for path in paths)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--pictures"):
        write_attention_pictures(tmp_path / "file", shown.picture, shown.blocks[:1], shown.query)
    assert len(outline(np.array([[True, True], [False, True]]))) == 8


def test_the_page_begins_at_the_loudest_place():
    time = np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 2000 * time) * ((time > 0.6) & (time < 0.7)) * 0.5
    shown = examine_attention(
        build("swin_micro"), "x", Sound("a.wav", tone.astype(np.float32), 16000, 3.0, 9.0, 16000, 1)
    )
    assert shown.query == pytest.approx((0.65, 2000), rel=0.1)
    assert shown.picture.start_s == pytest.approx(3.0, abs=0.01)
