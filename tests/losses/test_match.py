"""Matches and weights of regions: shuffled features, known shifts, stretches and edges, silent cells."""

import torch
import torch.nn.functional as F

from audiossl.losses.match import Grid, Regions, energy_weights, match_by_features, match_by_place


def regions(boxes, size=(64, 96), stride=(16, 16), d=4):
    """Regions of views with boxes (V, B, 4) and features that play no part."""
    boxes = torch.tensor(boxes)
    cells = tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
    x = torch.zeros(*boxes.shape[:2], cells[0] * cells[1], d)
    return Regions(x, x, Grid(size, stride, cells), boxes)


def test_regions_find_themselves_again_after_a_shuffle():
    torch.manual_seed(2)
    teacher = torch.randn(2, 4, 10, 16)
    order = torch.stack([torch.randperm(10) for _ in range(4)])
    student = 3.0 * teacher[1].gather(1, order[..., None].expand(-1, -1, 16))
    match = match_by_features(torch.stack([student, teacher[0], student]), teacher)
    assert match.shape == (2, 3, 4, 10)
    assert match[1, 0].equal(order)
    assert match[1, 2].equal(order)
    assert match[0, 1].equal(torch.arange(10).expand(4, -1))


def test_match_by_features_equals_cosines_one_by_one():
    torch.manual_seed(3)
    student, teacher = torch.randn(3, 2, 5, 7), torch.randn(2, 2, 6, 7)
    match = match_by_features(student, teacher)
    for g in range(2):
        for v in range(3):
            for b in range(2):
                cosines = F.cosine_similarity(student[v, b][:, None], teacher[g, b][None], dim=-1)
                assert match[g, v, b].equal(cosines.argmax(1))


def test_the_same_box_matches_every_cell_with_itself():
    box = regions([[[0.1, 0.9, -0.2, 1.3]]])
    match, inside = match_by_place(box, box)
    assert match.flatten().tolist() == list(range(24))
    assert inside.all()


def test_a_shift_in_time_of_two_cells_moves_matches_by_two():
    # 6 cells of 1/6 s: the student begins two of them later.
    teacher, student = regions([[[0.0, 1.0, 0.0, 1.0]]]), regions([[[1 / 3, 4 / 3, 0.0, 1.0]]])
    match, inside = match_by_place(student, teacher)
    cells = torch.arange(24).view(4, 6)
    assert match.view(4, 6)[:, :4].equal(cells[:, 2:])
    assert inside.view(4, 6).tolist() == [[True] * 4 + [False] * 2] * 4


def test_a_shift_in_frequency_of_one_cell_moves_matches_by_one_row():
    # The student's box begins a quarter of the band lower, below the clip, where the teacher sees nothing.
    teacher, student = regions([[[0.0, 1.0, 0.0, 1.0]]]), regions([[[0.0, 1.0, -0.25, 0.75]]])
    match, inside = match_by_place(student, teacher)
    cells = torch.arange(24).view(4, 6)
    assert match.view(4, 6)[1:].equal(cells[:3])
    assert inside.view(4, 6).tolist() == [[False] * 6] + [[True] * 6] * 3


def test_stretched_views_of_other_sizes_match_by_seconds_and_band_against_a_plain_loop():
    torch.manual_seed(4)
    low = torch.rand(4, 5, 2)
    boxes = torch.stack([low[..., 0] - 0.3, low[..., 0] + 0.5, low[..., 1] - 0.4, low[..., 1] + 0.7], -1)
    teacher = regions(boxes[:2].tolist(), size=(64, 80), stride=(32, 32))  # 80 frames: the third cell is half a cell
    student = regions(boxes.tolist(), size=(32, 48), stride=(16, 32))
    match, inside = match_by_place(student, teacher)
    for g in range(2):
        for v in range(4):
            for b in range(5):
                for p in range(4):
                    (s0, s1, s2, s3), (t0, t1, t2, t3) = boxes[v, b].tolist(), boxes[g, b].tolist()
                    # Middles of the parts of the cells that lie in the picture: frames 0 to 32 and 32 to 48.
                    seconds = s0 + (s1 - s0) * (16.0, 40.0)[p % 2] / 48
                    band = s2 + (s3 - s2) * (8.0, 24.0)[p // 2] / 32
                    x, y = (seconds - t0) / (t1 - t0) * 80, (band - t2) / (t3 - t2) * 64
                    there = 0 <= x < 80 and 0 <= y < 64
                    assert inside[g, v, b, p].item() == there
                    if there:
                        assert match[g, v, b, p].item() == 3 * int(y // 32) + int(x // 32)


def test_views_that_do_not_meet_have_no_match_by_place_but_indices_that_exist():
    early, late = regions([[[0.0, 0.4, 0.0, 1.0]]]), regions([[[0.6, 1.0, 0.0, 1.0]]])
    match, inside = match_by_place(early, late)
    assert not inside.any()
    assert ((match >= 0) & (match < 24)).all()


def test_only_cells_with_sound_count():
    image = torch.full((2, 1, 64, 96), -1.0)
    image[0, :, :16, 32:48] = 2.0  # row 0, column 2
    image[0, :, 48:, 80:] = 2.0  # row 3, column 5
    weights = energy_weights(image, regions([[[0.0, 1.0, 0.0, 1.0]] * 2]))
    assert weights.shape == (1, 2, 24)
    expected = torch.zeros(24)
    expected[[2, 23]] = 0.5
    torch.testing.assert_close(weights[0, 0], expected)
    torch.testing.assert_close(weights[0, 1], torch.full((24,), 1 / 24))  # silence: all alike


def test_a_soft_view_is_weighed_like_a_loud_one():
    torch.manual_seed(0)
    image, view = torch.randn(1, 1, 64, 96), regions([[[0.0, 1.0, 0.0, 1.0]]])
    torch.testing.assert_close(energy_weights(image - 8.0, view), energy_weights(image, view))


def test_cells_cut_off_by_the_edge_are_means_over_what_is_there():
    image = torch.full((1, 2, 16, 48), -1.0)
    image[..., :16] = 1.0  # half of the first cell
    image[..., 32:] = 1.0  # all that there is of the second
    weights = energy_weights(image, regions([[[0.0, 1.0, 0.0, 1.0]]], size=(16, 48), stride=(32, 32)))
    torch.testing.assert_close(weights, torch.tensor([[[1 / 3, 2 / 3]]]))


def test_what_is_left_of_a_picture_belongs_to_the_last_cell():
    """A network whose pooling leaves the last eight of forty frames out: they count as its last cell's."""
    image = torch.full((1, 1, 16, 40), -1.0)
    image[..., 32:] = 1.0
    x, boxes = torch.zeros(1, 1, 2, 4), torch.tensor([[[0.0, 1.0, 0.0, 1.0]]])
    weights = energy_weights(image, Regions(x, x, Grid((16, 40), (16, 16), (1, 2)), boxes))
    torch.testing.assert_close(weights, torch.tensor([[[0.0, 1.0]]]))


def test_what_lies_beyond_the_clip_has_no_energy():
    # The view shows -0.5 to 1.5 s and the band up to twice its height; beyond the clip there is 0, the mean.
    image = torch.zeros(1, 1, 64, 64)
    image[:, :, :32, 16:48] = -1.0
    image[:, :, :16, 16:32] = 1.0
    view = regions([[[-0.5, 1.5, 0.0, 2.0]]], size=(64, 64))
    known = energy_weights(image, view, clip_s=1.0)
    assert known.argmax() == 1
    assert known.max() == 1.0
    unknown = energy_weights(image, view)
    assert (unknown.view(4, 4)[:2, 3] > 0).all()  # the end of the clip is not known
    assert (unknown.view(4, 4)[2:] == 0).all()
    assert (unknown.view(4, 4)[:, 0] == 0).all()
