"""Projections: what they show, few, equal and silent points, the same bytes from the same seed, what is preserved."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from audiossl.errors import UserError
from audiossl.map.config import PROJECTIONS
from audiossl.map.neighbours import nearest_of_all
from audiossl.map.projections import MOST_TSNE, NAMES, align, preserved, project
from audiossl.search import unit


def clusters(n: int, dim: int = 12, n_clusters: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    label = np.arange(n) % n_clusters
    x = 4 * generator.normal(size=(n_clusters, dim))[label] + generator.normal(size=(n, dim))
    return x.astype(np.float32), label


@pytest.fixture(scope="module")
def found():
    return project(clusters(90)[0], PROJECTIONS)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_clusters_stay_together(found, kind):
    x, label = clusters(90)
    xy = found[kind].xy
    middles = np.stack([xy[label == one].mean(axis=0) for one in range(3)])
    assert np.square(xy[:, None] - middles).sum(axis=2).argmin(axis=1).tolist() == label.tolist()
    assert trustworthiness(x, xy, n_neighbors=15, metric="cosine") > 0.9


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_places_are_centred_and_of_deviation_one(found, kind):
    projection = found[kind]
    assert projection.name == NAMES[kind]
    assert projection.xy.dtype == np.float32
    assert np.abs(projection.xy.mean(axis=0)).max() < 1e-5
    assert projection.xy.std(axis=0).max() == pytest.approx(1, abs=1e-5)
    assert projection.preserved == preserved(clusters(90)[0], projection.xy)


@pytest.mark.slow
def test_the_threads_of_torch_stay_as_many():
    # numba sets them once in a process, where scikit-learn has set them before
    script = (
        "import numpy as np, torch\n"
        "from audiossl.map.projections import project\n"
        "torch.set_num_threads(1)\n"
        "for kind in ('tsne', 'umap'):\n"
        "    project(np.random.default_rng(0).standard_normal((60, 8)), [kind])\n"
        "    print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


def test_what_was_done_is_said(found):
    assert "% of the variance" in found["pca"].about
    assert "perplexity 29.7, from PCA, seed 0, scikit-learn" in found["tsne"].about
    assert "15 neighbours by cosine, min_dist 0.1, from PCA, seed 0, umap-learn" in found["umap"].about


def test_the_same_seed_gives_the_same_bytes_and_the_order_asked_for():
    x = clusters(40)[0]
    once, again = project(x, ("umap", "tsne", "pca")), project(x, ("umap", "tsne", "pca"))
    assert list(once) == ["umap", "tsne", "pca"]
    assert [p.xy.tobytes() for p in once.values()] == [p.xy.tobytes() for p in again.values()]
    assert [(p.about, p.preserved) for p in once.values()] == [(p.about, p.preserved) for p in again.values()]
    other = project(x, ("umap", "tsne"), seed=1)
    assert all(not np.array_equal(other[kind].xy, once[kind].xy) for kind in other)


def test_only_directions_count():
    x = clusters(40)[0]
    longer = x * 2.0 ** np.random.default_rng(1).integers(-3, 4, (40, 1))
    for kind, projection in project(longer, PROJECTIONS).items():
        assert np.allclose(projection.xy, project(x, [kind])[kind].xy, atol=1e-4)


@pytest.mark.parametrize(("n", "dim"), [(50, 6), (6, 50), (50, 2)])
def test_pca_is_that_of_scikit_learn_on_unit_rows(n, dim):
    x = np.random.default_rng(0).normal(size=(n, dim))
    found, known = project(x, ["pca"])["pca"], PCA(2).fit(unit(x).astype(np.float64))
    places = known.transform(unit(x))
    places /= places.std(axis=0).max()
    assert np.allclose(np.abs(found.xy), np.abs(places), atol=1e-4)
    assert found.about.startswith(f"{known.explained_variance_ratio_.sum():.0%}")
    farthest = np.abs(found.xy).argmax(axis=0)
    assert (found.xy[farthest, [0, 1]] > 0).all()


def test_pca_works_in_blocks(monkeypatch):
    x = clusters(60)[0]
    whole = project(x, ["pca"])["pca"].xy, project(x.T, ["pca"])["pca"].xy
    monkeypatch.setattr("audiossl.map.projections.BLOCK", 300)
    parts = project(x, ["pca"])["pca"].xy, project(x.T, ["pca"])["pca"].xy
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(whole, parts, strict=True))


ODD = {
    "one row": np.ones((1, 5)),
    "two rows": np.eye(2),
    "three rows": np.eye(3),
    "four rows": np.eye(4),
    "fewer rows than neighbours": np.random.default_rng(0).normal(size=(9, 5)),
    "equal rows": np.ones((30, 5)),
    "all silent": np.zeros((30, 5)),
    "some silent": clusters(30)[0] * (np.arange(30)[:, None] % 4 > 0),
    "one number": np.random.default_rng(0).normal(size=(30, 1)),
    "one number, all positive": np.arange(1.0, 31)[:, None],
    "a line": np.linspace(-1, 1, 30)[:, None] * np.array([[1.0, 0.0]]) + np.array([[0.0, 1.0]]),
    "two places": np.eye(2)[np.arange(30) % 2],
    "mostly equal": np.concatenate([np.ones((40, 5)), np.random.default_rng(0).normal(size=(3, 5))]),
    "opposite": np.concatenate([clusters(20)[0], -clusters(20)[0]]),
    "very small": clusters(30)[0] * 1e-20,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_odd_rows_have_finite_places(name):
    x = ODD[name].astype(np.float32)
    for projection in project(x, PROJECTIONS).values():
        assert projection.xy.shape == (len(x), 2)
        assert np.isfinite(projection.xy).all()
        assert np.isnan(projection.preserved) if len(x) < 3 else 0 <= projection.preserved <= 1


def test_equal_rows_are_one_point_and_few_rows_are_pcas():
    assert {(p.about, p.xy.any()) for p in project(np.ones((9, 3)), PROJECTIONS).values()} == {
        ("all points are the same", False)
    }
    few = project(np.eye(3), PROJECTIONS)
    assert few["tsne"].about == "PCA: t-SNE needs 4 points"
    assert np.array_equal(few["umap"].xy, few["pca"].xy)


def moved(xy: np.ndarray, since: np.ndarray) -> float:
    return float(np.sqrt(np.square(align(xy, since) - since).sum(axis=1).mean()))


@pytest.mark.parametrize("kind", ["tsne", "umap"])
def test_points_move_less_from_the_places_before(kind):
    x, _ = clusters(120, n_clusters=9)
    later = x + np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    before = project(x, [kind])[kind].xy
    alone, after = project(later, [kind])[kind], project(later, [kind], start={kind: before})[kind]
    assert moved(after.xy, before) < moved(alone.xy, before)
    assert after.preserved > alone.preserved - 0.05
    assert "from the places before" in after.about


def test_known_neighbours_save_the_search(monkeypatch):
    x = clusters(60)[0]
    known, wanted = nearest_of_all(x, 20), project(x, ["umap"])["umap"].xy
    monkeypatch.setattr("audiossl.map.projections.nearest_of_all", None)
    assert np.array_equal(project(x, ["umap"], nearest=known)["umap"].xy, wanted)


def test_each_projection_is_announced():
    said = []
    project(clusters(30)[0], ["pca", "tsne"], say=said.append)
    assert said == ["PCA of 30 points", "t-SNE of 30 points"]


def test_without_umap_learn_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match="pip install umap-learn"):
        project(clusters(30)[0], ["umap"])


def test_mistakes_are_named_before_any_work():
    with pytest.raises(UserError, match="'lda' is unknown: choose some of pca, tsne, umap"):
        project(clusters(30)[0], ["pca", "lda"])
    with pytest.raises(UserError, match=f"for {MOST_TSNE + 1:,} points.*--projections pca,umap"):
        project(np.zeros((MOST_TSNE + 1, 1), np.float32), ["pca", "tsne"])


def test_align_undoes_a_turn_a_mirror_and_a_shift():
    generator = np.random.default_rng(0)
    to = generator.normal(size=(20, 2)) + 3
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for mirror in (1, -1):
        moved = to * [mirror, 1] @ turn + [5, -2]
        assert np.allclose(align(moved, to), to, atol=1e-5)
    noisy = align(to @ turn + 0.1 * generator.normal(size=to.shape), to)
    assert np.abs(noisy - to).max() < 0.5
    assert np.allclose(align(to[:1] * 7, to[:1]), to[:1])


def preserved_by_the_definition(x: np.ndarray, xy: np.ndarray, k: int) -> float:
    cosines = unit(x) @ unit(x).T
    distances = np.linalg.norm(xy[:, None] - xy, axis=2)
    np.fill_diagonal(cosines, -2)
    np.fill_diagonal(distances, np.inf)
    near, near_in_plane = np.argsort(-cosines, axis=1)[:, :k], np.argsort(distances, axis=1)[:, :k]
    return float(
        np.mean([len(set(a) & set(b)) / k for a, b in zip(near.tolist(), near_in_plane.tolist(), strict=True)])
    )


def test_preserved_is_the_share_of_common_neighbours(monkeypatch):
    x, xy = clusters(100)[0], np.random.default_rng(1).normal(size=(100, 2))
    assert preserved(x, x[:, :2], k=10) == pytest.approx(preserved_by_the_definition(x, x[:, :2], 10))
    assert preserved(x, xy) == pytest.approx(preserved_by_the_definition(x, xy, 15))
    monkeypatch.setattr("audiossl.map.projections.BLOCK", 300)
    assert preserved(x, xy) == pytest.approx(preserved_by_the_definition(x, xy, 15))


def test_preserved_is_one_for_a_picture_of_the_circle_and_chance_for_noise():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert preserved(circle, circle) == 1.0
    assert preserved(circle, np.random.default_rng(1).normal(size=(400, 2))) == pytest.approx(15 / 399, abs=0.02)


def test_preserved_does_not_depend_on_which_of_equal_rows_is_near():
    x = np.repeat(np.eye(3), 40, axis=0)
    places = np.repeat(np.array([[0, 0], [9, 0], [0, 9]]), 40, axis=0)
    assert preserved(x, places + np.random.default_rng(0).normal(size=(120, 2))) == 1.0


def test_a_sample_of_rows_tells_about_all():
    x = clusters(900)[0]
    xy = project(x, ["pca"])["pca"].xy
    assert preserved(x, xy, sample=300) == preserved(x, xy, sample=300)
    assert preserved(x, xy, sample=300) != preserved(x, xy, sample=300, seed=1)
    assert preserved(x, xy, sample=300) == pytest.approx(preserved(x, xy), abs=0.02)
