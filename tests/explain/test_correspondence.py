from __future__ import annotations

import csv
import io
import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
from audiossl.transforms import MelConfig, as_float
from torch import nn
from torch.nn import functional

from audiossl.backbones import BackboneConfig, BackboneOutput, build_backbone
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.explain.cells import cells_of
from audiossl.explain.correspondence import correspondence, levels_db, silent_cells
from audiossl.explain.correspondence_config import CorrespondenceConfig, KnownChange
from audiossl.explain.correspondence_page import examine_two_clips, examine_two_views, write_correspondence_page
from audiossl.explain.known_views import Change, draw_change, known_views
from audiossl.explain.measured_correspondence import measure
from audiossl.explain.regions import picture_regions, regions_of
from audiossl.explain.sound import Sound

RATE = 16000
BASELINES = ["points of the picture", "same place", "chance"]
UNCHANGED = KnownChange(shift_s=0.0, crop=0.0, gain_db=0.0, snr_db=np.inf)
# As much noise as sound: at 20 dB a Swin with random weights finds 7 of 10 tones again, since it sees spectra, too.
SHIFTED = KnownChange(shift_s=0.3, crop=0.0, snr_db=0.0)


class Content(nn.Module):
    """A backbone by hand: a region is the spectrum of its frames, and its row among the others."""

    stride = (16, 16)
    patch_size = (4, 4)
    pool = "mean"

    def forward(self, image):
        pad = [-n % 16 for n in image.shape[2:]]
        columns = functional.avg_pool2d(functional.pad(image, (0, pad[1], 0, pad[0])), (1, 16))[:, 0]
        columns = functional.normalize(columns - columns.mean((1, 2), keepdim=True), dim=1).transpose(1, 2)
        grid = (image.shape[2] + pad[0]) // 16, columns.shape[1]
        rows = torch.eye(grid[0])[None, :, None].expand(len(image), -1, grid[1], -1)
        spectra = columns[:, None].expand(-1, grid[0], -1, -1)
        patches = torch.cat([spectra, rows], -1).flatten(1, 2)
        return BackboneOutput(patches.mean(1), patches, grid)


def build(name="swin_micro", seed=0):
    torch.manual_seed(seed)
    return AudioEncoder.build(EncoderConfig(MelConfig(n_bins=64), BackboneConfig(name))).eval()


@pytest.fixture(scope="module")
def by_hand():
    encoder = build()
    encoder.backbone = Content()
    return encoder


def melody(seed):
    """A second of tones with overtones, each of a tenth of a second and of a pitch of its own."""
    rng = np.random.default_rng(seed)
    pitches = 120 * 2 ** (rng.permutation(10) / 4)
    time = np.arange(RATE // 10) / RATE
    return np.concatenate([sum(np.sin(2 * np.pi * f * n * time) / n for n in range(1, 12)) for f in pitches]) * 0.2


@pytest.fixture(scope="module")
def melodies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("melodies")
    for seed in range(6):
        soundfile.write(folder / f"{seed}.wav", melody(seed), RATE)
    data = DataConfig(root=str(folder))
    return cache_clips(open_clips(data), data, progress=False)


def sound(wave, name="a.wav"):
    return Sound(name, np.asarray(wave, np.float32), RATE, 0.0, len(wave) / RATE, RATE, 1)


def stage_of(name, image, backbone, stage):
    """Regions (P, D) of a stage, by timm's own way to them."""
    maps = backbone.net.forward_intermediates(image, intermediates_only=True, norm=False)
    return maps[stage - 1 + (name == "resnet10")][0].flatten(1).T  # a ResNet's stem comes first


@pytest.mark.parametrize(("name", "n_stages"), [("swin_micro", 3), ("resnet10", 4), ("timm/convnext_atto", 4)])
def test_stages_are_those_of_the_network(name, n_stages):
    backbone = build(name).backbone
    image = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        for stage in range(1, n_stages + 1):
            found = regions_of(backbone, image, stage)
            side = 4 * 2 ** (stage - 1)
            assert (found.stride, found.grid) == ((side, side), (64 // side, 96 // side))
            if stage < n_stages:
                torch.testing.assert_close(found.patches[0], stage_of(name, image[:1], backbone, stage))
        assert torch.equal(found.patches, backbone(image).patches)
        assert torch.equal(found.patches, regions_of(backbone, image).patches)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_stages_of_a_shortened_resnet_are_those_that_are_left():
    backbone = build_backbone(BackboneConfig("resnet10", stages=2), (64, 96)).eval()
    image = torch.randn(1, 1, 64, 96)
    with torch.no_grad():
        assert [regions_of(backbone, image, n).stride for n in (1, 2)] == [(4, 4), (8, 8)]
        assert torch.equal(regions_of(backbone, image, 2).patches, backbone(image).patches)
        with pytest.raises(UserError, match="the stages 1 to 2"):
            regions_of(backbone, image, 3)


def test_points_of_the_picture_are_those_of_each_cell():
    image = torch.arange(2 * 5 * 6.0).reshape(1, 2, 5, 6)
    found = picture_regions(image, (3, 2), (2, 3))
    assert (found.grid, found.stride) == ((3, 2), (2, 3))
    for row in range(3):
        for column in range(2):
            cell = image[0, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            inside = found.patches[0, 2 * row + column].reshape(2, 2, 3)[:, : cell.shape[1]]
            assert torch.equal(inside, cell)
    assert (found.patches[0, 4:].reshape(2, 2, 2, 3)[:, :, 1] == 0).all()  # the sixth row lies beyond the picture
    fewer = picture_regions(image, (2, 2), (2, 3)).patches
    assert torch.equal(fewer, found.patches[:, :4])  # the fifth row is left out


def test_a_network_that_leaves_the_last_frames_out_is_measured(melodies):
    encoder = build("audiontt_2020")
    change = KnownChange(shift_s=0.3, crop=0.0)
    n_frames = encoder.frontend.n_frames(round(RATE * (melodies.waves.shape[1] / RATE - 0.3)))
    assert n_frames % 8
    rows = measure(encoder, melodies, CorrespondenceConfig("x", change=change, random_seeds=[])).rows
    assert [row.name for row in rows] == ["encoder", *BASELINES]
    assert len({row.all_cells.n_cells for row in rows}) == 1
    with pytest.raises(UserError, match=r"--change\.crop 0 in inspect"):
        measure(encoder, melodies, CorrespondenceConfig("x", random_seeds=[]))


@pytest.mark.parametrize(
    ("name", "stage", "words"),
    [
        ("swin_micro", 4, "--stage 4 does not exist: the network has the stages 1 to 3"),
        ("resnet10", 0, "--stage 0 does not exist: the network has the stages 1 to 4"),
        ("vit_tiny", 1, "--stage 1 is for a Swin, a ResNet or a ConvNeXt"),
    ],
)
def test_a_stage_that_there_is_not_is_named(name, stage, words, melodies):
    with pytest.raises(UserError, match=words):
        correspondence(build(name), torch.zeros(RATE), torch.zeros(RATE), stage=stage)
    with pytest.raises(UserError, match=words):
        measure(build(name), melodies, CorrespondenceConfig("x", stage=stage, random_seeds=[]))


@pytest.mark.parametrize("name", ["swin_micro", "resnet10", "vit_tiny"])
def test_matches_are_the_nearest_regions_by_cosine(name):
    encoder = build(name).train()
    a, b = torch.randn(16000) * 0.1, torch.randn(12000) * 0.1
    found = correspondence(encoder, a, b, k=3)
    assert encoder.training
    encoder.eval()
    with torch.no_grad():
        first, second = encoder.patches(a[None]), encoder.patches(b[None])
    x, y = first.patches[0].numpy(), second.patches[0].numpy()
    for p, region in enumerate(x):
        cosines = [region @ other / np.linalg.norm(region) / np.linalg.norm(other) for other in y]
        assert found.similarity[p] == pytest.approx(sorted(cosines)[-3:][::-1], abs=1e-5)
        assert np.take(cosines, found.matches[p]) == pytest.approx(found.similarity[p], abs=1e-5)
    assert found.cells_a.grid == first.grid
    assert found.cells_b.grid == second.grid
    np.testing.assert_allclose(found.cells_b.centres_s, second.centres_s, atol=1e-5)
    np.testing.assert_allclose(found.cells_a.centres_hz, first.centres_hz, rtol=1e-5)


def test_strongest_leaves_silence_out():
    wave = torch.cat([torch.randn(8000) * 0.1, torch.zeros(8000)])
    found = correspondence(build(), wave, torch.randn(16000))
    assert found.silent.reshape(4, 6).all(0).tolist() == [False, False, False, False, True, True]
    strongest = found.strongest(100)
    assert set(strongest) == set(np.flatnonzero(~found.silent))
    assert (np.diff(found.similarity[strongest, 0]) <= 0).all()
    assert found.strongest(5).tolist() == strongest[:5].tolist()


def test_levels_are_those_of_the_sound():
    front = build().frontend
    cells = cells_of(front, RATE, (4, 6), (16, 16))
    noise = torch.randn(1, RATE, generator=torch.Generator().manual_seed(0)) * 0.01
    assert levels_db(noise, cells, RATE)[0].reshape(4, 6)[:, 1:5] == pytest.approx(np.full((4, 4), -40.0), abs=1.5)
    time = torch.arange(RATE) / RATE
    tone = (torch.sin(2 * torch.pi * 1200 * time) * (time > 0.5))[None]
    level = levels_db(tone, cells, RATE)
    assert np.unravel_index(level[0].argmax(), (4, 6))[0] == next(
        i for i, (_, high) in enumerate(cells.bands) if high > 1200
    )
    assert silent_cells(level, 40.0)[0].reshape(4, 6)[:, :2].all()


def test_what_is_cut_lies_where_it_is_said_to_lie():
    encoder = build()
    wave = as_float(torch.from_numpy(melody(0)).float()[None].repeat(2, 1))
    hop = encoder.frontend.hop_length
    config = KnownChange(shift_s=20 * hop / RATE, crop=0.25, gain_db=0.0, snr_db=np.inf)
    change = Change(torch.tensor([0, 12 * hop]), torch.tensor([8 * hop, 0]), torch.tensor([0, 11]), torch.zeros(2))
    views = known_views(encoder, wave, change, config, 40.0, torch.Generator())
    assert views.image_b.shape[2] == 48
    for clip, (later, cut) in enumerate([(-8, 0), (12, 11)]):  # frames by which a sound is later in the second view
        for row in (20, 40):
            for frame in (20, 50):
                # Away from the edges, where the windows reach beyond what was cut.
                a, b = views.image_a[clip, 0, row, frame], views.image_b[clip, 0, row - cut, frame + later]
                assert float(a) == pytest.approx(float(b), abs=1e-4)
        rows, columns = views.rows[clip].reshape(4, 5), views.columns[clip].reshape(4, 5)
        np.testing.assert_allclose(rows[:, 0], np.arange(4) - cut / 16)
        np.testing.assert_allclose(columns[0], np.arange(5) + later / 16)
        inside = views.inside[clip].reshape(4, 5)
        assert inside[1, 2]
        assert inside[3].any() == (cut > 0)  # the highest cells are cut off where nothing is missing below
    assert not views.inside[0].reshape(4, 5)[:, 0].any()  # begins before the second view does


def test_draws_are_repeatable_and_stay_in_their_bounds():
    encoder = build()
    config = KnownChange(shift_s=0.2, crop=0.25, gain_db=3.0)
    drawn = [draw_change(config, encoder, 200, RATE, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not torch.equal(drawn[0].start_a, drawn[2].start_a)
    for starts in (drawn[0].start_a, drawn[0].start_b):
        assert 0 <= starts.min() < 400 < 2800 < starts.max() <= 3200
    assert set(drawn[0].first_row.tolist()) == set(range(17))
    assert drawn[0].gain_db.abs().max() <= 3.0


def test_the_same_view_twice_is_found_exactly(melodies):
    found = measure(build(), melodies, CorrespondenceConfig("x", change=UNCHANGED, random_seeds=[]))
    encoder, picture, same, chance = found.rows
    assert picture.all_cells.exact == same.all_cells.exact == 1.0
    assert (encoder.all_cells.exact, encoder.all_cells.time_error_ms) == (1.0, 0.0)
    assert encoder.four_numbers["distance_error_avg"] == 0.0
    assert chance.all_cells.exact == pytest.approx(1 / 24)
    near = [min(r + 1, 3) - max(r - 1, 0) + 1 for r in range(4)]
    across = [min(c + 1, 5) - max(c - 1, 0) + 1 for c in range(6)]
    if chance.all_cells.n_cells == 24 * 6:  # nothing silent
        assert chance.all_cells.within_cells == pytest.approx(np.mean(np.outer(near, across)) / 24)


def test_a_network_that_sees_content_is_told_from_a_random_one(by_hand, melodies):
    config = CorrespondenceConfig("x", change=SHIFTED, random_seeds=[])
    seeing, random = measure(by_hand, melodies, config).rows[0], measure(build(seed=3), melodies, config).rows[0]
    assert seeing.all_cells.exact > 0.8
    assert seeing.all_cells.within_cells > 0.95
    assert random.all_cells.exact < 0.5
    assert seeing.top.exact >= seeing.all_cells.exact
    # The same of the pictures: what is drawn for one clip.
    shown = [examine_two_views(e, "x", sound(melody(0)), SHIFTED) for e in (by_hand, build(seed=3))]
    agree = (shown[0].found.matches[:, 0] == shown[1].found.matches[:, 0])[~shown[0].found.silent]
    assert agree.mean() < 0.5


def test_pages_of_a_random_network_look_otherwise(by_hand, tmp_path):
    right = []
    for encoder in (by_hand, build(seed=3)):
        shown = examine_two_views(encoder, "x", sound(melody(1)), SHIFTED)
        text = write_correspondence_page(tmp_path / "page.html", shown).read_text("utf-8")
        first = [part for part in text.split("<g hidden")[1:] if 'data-order="0"' in part.split(">")[0]]
        known = [part for part in first if 'class="match"' not in part.split(">")[0]]
        right.append(sum('class="right"' in part.split(">")[0] for part in known) / len(known))
    assert right[0] > 0.8
    assert right[1] < 0.5


def plain_measure(encoder, clips, config):
    """Accuracies in loops over clips and cells: all cells and the most similar of each clip."""
    generator = torch.Generator().manual_seed(config.seed)
    wave = as_float(torch.from_numpy(clips.waves[:]))
    change = draw_change(config.change, encoder, len(wave), wave.shape[1], generator)
    views = known_views(encoder, wave, change, config.change, config.silence_db, generator)
    with torch.no_grad():
        a, b = encoder.backbone(views.image_a), encoder.backbone(views.image_b)
    everything, accuracy, following, distance = [], [], [], []
    for clip in range(len(wave)):
        cells = []
        for p in range(a.patches.shape[1]):
            if views.silent[clip, p] or not views.inside[clip, p]:
                continue
            cosines = functional.cosine_similarity(a.patches[clip, p][None], b.patches[clip])
            row, column = divmod(int(cosines.argmax()), b.grid[1])
            off = abs(row - views.rows[clip, p]), abs(column - views.columns[clip, p])
            cells.append((float(cosines.max()), max(off) <= 0.5, 16 * np.hypot(*off)))
        cells.sort(key=lambda cell: -cell[0])
        everything += [cell[1] for cell in cells]
        accuracy.append(np.mean([cell[1] for cell in cells[: config.top]]))
        distance.append(np.mean([cell[2] for cell in cells[: config.top]]))
        following.append(cells[min(config.top, len(cells) - 1)][0])
    four = {"sim_value_avg": following, "accuracy_avg": accuracy, "distance_error_avg": distance}
    return np.mean(everything), {name: np.mean(values) for name, values in four.items()}


def test_the_numbers_are_those_of_plain_loops(melodies):
    encoder, config = build(seed=1), CorrespondenceConfig("x", top=4, random_seeds=[])
    row = measure(encoder, melodies, config).rows[0]
    exact, four = plain_measure(encoder, melodies, config)
    assert row.all_cells.exact == pytest.approx(exact)
    assert row.four_numbers == pytest.approx({"count": 6, **four}, abs=1e-5)


def test_a_finer_stage_is_measured_on_its_own_cells(melodies):
    config = CorrespondenceConfig("x", stage=1, random_seeds=[0], change=SHIFTED)
    found = measure(build(seed=1), melodies, config)
    assert [row.name for row in found.rows] == ["encoder", "random weights, seed 0", *BASELINES]
    assert [len(row.bands) for row in found.rows] == [16] * 5
    assert found.about["stage"] == 1
    coarse = measure(build(seed=1), melodies, CorrespondenceConfig("x", random_seeds=[], change=SHIFTED))
    assert found.rows[0].all_cells.n_cells > 8 * coarse.rows[0].all_cells.n_cells
    assert found.rows[-1].all_cells.exact < coarse.rows[-1].all_cells.exact / 8


def test_the_same_place_is_right_where_the_shift_stays_in_the_cell(melodies):
    """By loops over clips and cells, from the draws alone."""
    config = CorrespondenceConfig("x", stage=2, random_seeds=[], silence_db=np.inf)
    encoder = build()
    same = measure(encoder, melodies, config).rows[-2]
    generator = torch.Generator().manual_seed(0)
    change = draw_change(config.change, encoder, 6, RATE, generator)
    hits = []
    for clip in range(6):
        later = (change.start_a[clip] - change.start_b[clip]).item() / encoder.frontend.hop_length  # frames
        for row in range(8):
            for column in range(9):  # 0.75 s: 72 frames
                up, across = 8 * row + 4 - change.first_row[clip].item(), 8 * column + 4 + later
                if 0 <= up <= 48 and 0 <= across <= 72:
                    own = min(row, 5) * 8 + 4, column * 8 + 4
                    hits.append(abs(up - own[0]) <= 4 and abs(across - own[1]) <= 4)
    assert same.all_cells.n_cells == len(hits)
    assert same.all_cells.exact == pytest.approx(np.mean(hits))


def test_every_file_says_the_same(by_hand, melodies):
    said = []
    found = measure(by_hand, melodies, CorrespondenceConfig("x", change=SHIFTED, random_seeds=[0, 5]), said.append)
    names = ["encoder", "random weights, seed 0", "random weights, seed 5", *BASELINES]
    assert [row.name for row in found.rows] == said == names
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["rows"][0]["all_cells"]["exact"] == found.rows[0].all_cells.exact
    table = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [line["cells"] for line in table[:6]] == ["all", "top 10", *["band"] * 4]
    assert float(table[0]["exact"]) == found.rows[0].all_cells.exact
    assert sum(int(line["n_cells"]) for line in table[2:6]) == found.rows[0].all_cells.n_cells
    edges = [(float(line["low_hz"]), float(line["high_hz"])) for line in table[2:6]]
    assert all(upper[0] == lower[1] for lower, upper in pairwise(edges))
    four = pickle.loads(found.to_pickle())
    assert list(four) == ["count", "sim_value_avg", "accuracy_avg", "distance_error_avg"]
    assert f"| {100 * found.rows[0].all_cells.exact:.1f} |" in found.markdown().replace("  ", " ").replace("  ", " ")


def test_a_page_shows_the_cells_of_the_stage_that_was_asked_for(tmp_path):
    shown = examine_two_views(build(), "x", sound(melody(2)), KnownChange(), stage=2)
    assert (shown.found.cells_a.grid, shown.found.cells_b.grid) == ((8, 9), (6, 9))
    text = write_correspondence_page(tmp_path / "page.html", shown).read_text("utf-8")
    assert 'data-rows="8" data-columns="9"' in text
    assert "Through stage 2 of x: 72 cells" in text
    clips = examine_two_clips(build(), "x", sound(melody(0)), sound(melody(1)), stage=2)
    assert clips.found.matches.shape == (96, 3)


def test_two_clips_make_a_page_without_truth(tmp_path):
    shown = examine_two_clips(build(), "runs/x", sound(melody(0)), sound(melody(1)[:12000], "b.wav"))
    assert shown.found.matches.shape == (24, 3)
    text = write_correspondence_page(tmp_path / "page.html", shown).read_text("utf-8")
    assert text.count("<audio ") == 2
    assert text.count("<g hidden") == 24 * 3
    assert 'class="right"' not in text
    assert "b.wav" in text


def test_mistakes_are_named(melodies, tmp_path):
    with pytest.raises(UserError, match="k=0 matches of each region: give at least 1"):
        correspondence(build(), torch.zeros(RATE), torch.zeros(RATE), k=0)
    assert correspondence(build(), torch.zeros(RATE), torch.zeros(RATE), k=30).matches.shape == (24, 24)
    with pytest.raises(UserError, match=r"--change.shift_s 2 leaves nothing of clips of 1 s"):
        measure(build(), melodies, CorrespondenceConfig("x", change=KnownChange(shift_s=2.0)))
    with pytest.raises(UserError, match=r"--change.shift_s 2 leaves nothing"):
        examine_two_views(build(), "x", sound(melody(0)), KnownChange(shift_s=2.0))
    for flag, value in (("top", 0), ("tolerance_ms", -1.0), ("silence_db", 0.0), ("batch_size", 0)):
        with pytest.raises(UserError, match=f"--{flag} is"):
            CorrespondenceConfig("x", **{flag: value})
    for flag, value in (("crop", 1.0), ("shift_s", -0.1)):
        with pytest.raises(UserError, match=f"--change.{flag} is"):
            KnownChange(**{flag: value})
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    data = DataConfig(root=str(tmp_path))
    silence = cache_clips(open_clips(data), data, progress=False)
    with pytest.raises(UserError, match="no cell holds sound in both views"):
        measure(build(), silence, CorrespondenceConfig("x", random_seeds=[]))
