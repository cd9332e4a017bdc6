import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from audiossl.run.monitors import OnlineKNN, feature_std, knn_accuracy, monitor, rankme, verdict
from audiossl.run.verdict import by_epoch, early_verdict


def orthogonal(n, seed=0):
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed)))[0]


# ------------------------------------------------------------------------------------------- feature_std


def test_feature_std_is_one_for_isotropic_features_of_any_scale():
    features = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert feature_std(features) == pytest.approx(1.0, abs=0.01)
    assert feature_std(features * 1e-3) == pytest.approx(feature_std(features), rel=1e-4)


def test_feature_std_written_out():
    x = np.random.default_rng(0).normal(1.0, 0.5, (10, 3))
    unit = x / np.sqrt((x**2).sum(1, keepdims=True))
    expected = np.mean([np.sqrt(np.mean((c - c.mean()) ** 2)) for c in unit.T]) * math.sqrt(3)
    assert feature_std(torch.from_numpy(x)) == pytest.approx(expected, rel=1e-5)


def test_feature_std_sees_a_point_with_a_little_noise():
    noise = torch.randn(100, 32, generator=torch.Generator().manual_seed(0))
    assert feature_std(torch.ones(100, 32) + 1e-3 * noise) < 0.01
    assert feature_std(torch.zeros(100, 32)) == 0.0


# ------------------------------------------------------------------------------------------------ rankme


@pytest.mark.parametrize("rank", [1, 2, 5, 16])
def test_rankme_counts_equal_singular_values(rank):
    spectrum = torch.zeros(16)
    spectrum[:rank] = 3.0
    features = orthogonal(40)[:, :16] @ torch.diag(spectrum) @ orthogonal(16, seed=1)
    assert rankme(features) == pytest.approx(rank, rel=1e-3)


def test_rankme_of_a_known_spectrum():
    spectrum = torch.tensor([8.0, 4.0, 2.0, 2.0])  # shares 1/2, 1/4, 1/8, 1/8: entropy 1.75 bits
    features = orthogonal(20)[:, :4] @ torch.diag(spectrum)
    assert rankme(features) == pytest.approx(2**1.75, rel=1e-4)
    assert rankme(7 * features) == pytest.approx(rankme(features), rel=1e-4)


def test_rankme_of_zeros_and_of_values_that_are_not_finite():
    assert rankme(torch.zeros(8, 4)) == 0.0
    assert math.isnan(rankme(torch.tensor([[1.0, float("nan")], [0.0, 1.0]])))
    assert math.isnan(rankme(torch.tensor([[1.0, float("inf")], [0.0, 1.0]])))


@pytest.mark.parametrize("function", [feature_std, rankme])
@pytest.mark.parametrize("shape", [(1, 8), (8,), (2, 3, 4)])
def test_features_of_a_wrong_shape_are_refused(function, shape):
    with pytest.raises(ValueError, match="at least two rows"):
        function(torch.randn(shape))


def test_monitors_take_half_precision():
    features = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    assert feature_std(features.bfloat16()) == pytest.approx(feature_std(features), rel=0.02)
    assert rankme(features.bfloat16()) == pytest.approx(rankme(features), rel=0.02)


# --------------------------------------------------------------------------------------------- OnlineKNN


class Clips:
    """The part of CachedClips that the monitors use."""

    def __init__(self, waves, label_ids, splits):
        self.waves, self.label_ids, self.splits = waves, label_ids, splits

    def __len__(self):
        return len(self.waves)

    def subset(self, rows):
        rows = np.asarray(rows, dtype=int)
        return Clips(self.waves[rows], self.label_ids[rows], self.splits[rows])

    def split(self, name):
        return self.subset(np.flatnonzero(self.splits == name))


class Levels(torch.nn.Module):
    """(B, S) -> the first 8 samples: the data below carry the label there."""

    def forward(self, wave):
        return wave[:, :8]


def toy_clips(n=120, labelled=True):
    random = np.random.default_rng(0)
    labels = np.arange(n) % 3
    waves = random.normal(0, 300, (n, 32)).astype(np.int16)
    waves[np.arange(n), labels] += 20000
    splits = np.array(["training", "training", "validation", "testing"] * (n // 4))
    return Clips(waves, labels if labelled else np.full(n, -1), splits)


def test_online_knn_scores_the_validation_split_and_restores_the_mode():
    encoder = Levels().train()
    values = OnlineKNN(toy_clips())(encoder)
    assert values["knn"] == 100.0
    assert values["feature_std"] > 0.1
    assert 2.5 < values["rankme"] < 8
    assert encoder.training


def test_online_knn_without_labels_gives_the_label_free_numbers():
    assert set(OnlineKNN(toy_clips(labelled=False))(Levels())) == {"feature_std", "rankme"}


def test_online_knn_takes_the_same_few_clips_every_time():
    first, second = (OnlineKNN(toy_clips(), n_training=20, n_validation=10, seed=3) for _ in range(2))
    assert len(first.training) == 20
    assert len(first.validation) == 10
    np.testing.assert_array_equal(first.training.waves, second.training.waves)
    other = OnlineKNN(toy_clips(), n_training=20, seed=4)
    assert not np.array_equal(first.training.waves, other.training.waves)


def test_a_diverged_encoder_gives_nan_not_an_exception():
    class Broken(torch.nn.Module):
        def forward(self, wave):
            return wave[:, :8] * float("nan")

    values = OnlineKNN(toy_clips())(Broken())
    assert math.isnan(values["knn"])
    assert math.isnan(values["rankme"])


def test_floors_are_measured_once_with_the_first_monitors_of_a_run():
    class Counted(OnlineKNN):
        def floors(self, encoder):
            return {"knn_random": 1.0}

    def epochs(history, first=0, every=3):
        """Rows as a session with --run.monitor_epochs 3 makes them."""
        due = SimpleNamespace(monitor_due=lambda epoch: (epoch + 1) % every == 0, is_main=True)
        due.recorder = SimpleNamespace(history=history)
        for epoch in range(first, first + 6):
            history.append({"kind": "epoch", "epoch": epoch, **monitor(due, Levels(), knn, epoch)})
        return [row["epoch"] for row in history if "knn_random" in row]

    knn, history = Counted(toy_clips()), []
    assert epochs(history) == [2]
    assert [row["epoch"] for row in history if "knn" in row] == [2, 5]
    assert epochs(history, first=6) == [2]  # resumed
    assert epochs([], first=6) == [8]  # resumed before they were measured
    assert epochs([], every=1) == [0]


def test_knn_accuracy_leaves_unlabelled_rows_out():
    x = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    y = np.array([0, 0, 1, 1, -1, -1])
    assert knn_accuracy(x, y, x, y) == 100.0
    assert math.isnan(knn_accuracy(x, np.full(6, -1), x, y))


# ----------------------------------------------------------------------------------------------- verdict

LN_K = math.log(256)


def run(n=12, steps=100, **columns):
    """Epoch rows: a column is a constant or a function of the epoch's share of the run, 0 to 1."""
    rows = []
    for epoch in range(n):
        row = {"epoch": epoch, "step": (epoch + 1) * steps}
        for key, value in columns.items():
            row[key] = value(epoch / max(1, n - 1)) if callable(value) else value
        rows.append(row)
    return rows


def healthy(**changes):
    """A run that learns: the loss leaves ln K, entropy falls to half, KL stays above 0, kNN climbs."""
    columns = {
        "loss": lambda t: LN_K * (1.0 - 0.5 * t),
        "loss_over_ln_k": lambda t: 1.0 - 0.5 * t,
        "teacher_entropy": lambda t: LN_K * (0.9 - 0.6 * t),
        "kl": lambda t: 0.1 + LN_K * 0.15 * t,
        "feature_std": lambda t: 0.1 + 0.5 * t,
        "rankme": lambda t: 6 + 60 * t,
        "knn": lambda t: 25 + 45 * t,
        "knn_random": 25.2,
        "knn_chance": 11.1,
        "lr": lambda t: 1e-3 * math.cos(t),
    }
    return columns | changes


def test_a_healthy_run_has_no_warning_at_any_epoch():
    rows = run(n=30, **healthy())
    assert [verdict(rows[: n + 1]) for n in range(30)] == [None] * 30


def test_a_healthy_sharp_teacher_is_no_collapse():
    # Sinkhorn with a low epsilon: per-clip entropy near 0, while the KL shows that different clips differ.
    assert verdict(run(**healthy(teacher_entropy=0.01, kl=1.2))) is None


def test_random_resnet10_values_are_no_collapse():
    # Measured on 400 words with random weights: spread 0.097, RankMe 5.9; a run starts there.
    assert verdict(run(n=4, **healthy(feature_std=0.097, rankme=5.9))) is None


def test_a_byol_run_without_prototypes_is_judged_by_what_it_has():
    columns = {"loss": lambda t: 2 - t, "feature_std": 0.6, "rankme": 40.0}
    assert verdict(run(**columns)) is None


def test_an_empty_history_or_one_without_epochs_says_nothing():
    assert verdict([]) is None
    assert verdict([{"step": 3, "loss": 1.0}]) is None


SICK = {
    "flat at ln K": (
        healthy(loss=LN_K * 0.999, loss_over_ln_k=0.999, teacher_entropy=LN_K * 0.998, kl=0.005),
        "lower teacher temperature",
    ),
    "one prototype": (
        healthy(loss=0.002, loss_over_ln_k=0.0004, teacher_entropy=0.001, kl=0.001),
        "one prototype takes every clip",
    ),
    "features at one point": (healthy(feature_std=lambda t: 0.5 * 0.2 ** (10 * t)), "all clips look alike"),
    "features at one point from the start": (healthy(feature_std=0.004), "all clips look alike"),
    "few directions": (healthy(rankme=lambda t: 1 + 39 * (1 - t) ** 8), "Dimensional collapse"),
    "kNN at random weights": (healthy(knn=lambda t: 24 + 2 * t), "not above random weights (25.2 %)"),
    "kNN at chance": (healthy(knn=11.5, knn_random=5.0), "not above chance (11.1 %)"),
    "kNN falls": (healthy(knn=lambda t: 46.8 - 12 * t), "kNN has fallen from 46.8 %"),
    "student does not learn": (
        healthy(loss=LN_K, loss_over_ln_k=1.0, teacher_entropy=0.3 * LN_K, kl=0.7 * LN_K),
        "does not learn the targets",
    ),
    "loss rises": (
        {"loss": lambda t: 2 + t, "feature_std": 0.5, "rankme": 40.0},
        "The loss has risen for 5 epochs",
    ),
}


@pytest.mark.parametrize("name", SICK)
def test_a_sick_run_is_named_once_and_told_what_to_try(name):
    columns, said = SICK[name]
    message = verdict(run(**columns))
    assert message is not None
    assert said in message
    assert "try" in message or "keep" in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize("name", SICK)
def test_nothing_is_said_in_the_first_epoch_or_in_the_first_steps(name):
    columns, _ = SICK[name]
    rows = run(**columns)
    assert verdict(rows[:1]) is None
    assert verdict(run(n=3, steps=10, **columns)) is None


@pytest.mark.parametrize("key", ["loss", "feature_std", "rankme"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_said_at_once(key, value):
    rows = run(n=1, **healthy())
    rows[0][key] = value
    assert "not a finite number" in verdict(rows)


def test_one_step_with_nan_in_the_epoch_is_enough():
    rows = [{"epoch": 0, "step": s, "loss": 1.0 if s != 5 else math.nan} for s in range(10)]
    assert "not a finite number" in verdict(rows)


def test_flat_at_ln_k_is_excused_while_the_learning_rate_warms_up():
    columns, _ = SICK["flat at ln K"]
    assert verdict(run(**(columns | {"lr": lambda t: 1e-3 * t}))) is None


def test_a_slow_descent_from_ln_k_is_not_flat():
    columns = healthy(loss=lambda t: LN_K * (1 - 0.019 * t), loss_over_ln_k=lambda t: 1 - 0.019 * t)
    assert verdict(run(n=5, **columns)) is None


def test_a_rising_loss_is_excused_while_knn_improves():
    columns = {"loss": lambda t: 2 + t, "knn": lambda t: 30 + 20 * t}
    assert verdict(run(**columns)) is None
    assert "risen" in verdict(run(**(columns | {"knn": lambda t: 50 - 5 * t})))


def test_a_noisy_loss_that_does_not_climb_is_not_rising():
    noise = np.random.default_rng(0).normal(0, 0.3, 200)
    rows = [{"epoch": e, "step": 100 * (e + 1), "loss": 3 + noise[e]} for e in range(200)]
    alarms = [verdict(rows[: n + 1]) for n in range(200)]
    assert alarms.count(None) >= 198  # six climbs in a row happen by chance about once in 5,000 epochs


def test_monitors_of_every_third_epoch_are_enough():
    rows = run(n=12, **healthy(feature_std=0.004))
    for row in rows:
        if (row["epoch"] + 1) % 3:
            del row["feature_std"]
    assert "all clips look alike" in verdict(rows)
    assert verdict(rows[:5]) is None


def test_step_rows_and_epoch_rows_may_be_mixed():
    rows = [
        {"epoch": 0, "step": 1, "loss": 1.0},
        {"epoch": 0, "step": 2, "loss": 3.0},
        {"epoch": 0, "step": 2, "knn": 40.0, "note": "text", "flag": True},
        {"epoch": 1, "step": 3, "loss": 5.0},
    ]
    assert by_epoch(rows) == [
        {"epoch": 0.0, "step": 2.0, "loss": 2.0, "knn": 40.0},
        {"epoch": 1.0, "step": 3.0, "loss": 5.0},
    ]


def test_the_toy_clips_have_what_the_monitors_read():
    # Guards the stand-in above: the real class must have these names.
    cache = pytest.importorskip("audiossl.data.cache")
    for name in ("split", "subset"):
        assert callable(getattr(cache.CachedClips, name))


def test_a_collapse_lasts_twenty_steps_however_often_they_are_logged():
    def row(step, share):
        return {"step": step, "coding_rate": 4.3 + 193 * share, "collapse_rate": 4.27, "rate_share": share}

    assert early_verdict([row(20, 0.3)]) is None
    assert "4.3 nats at step 40" in early_verdict([row(20, 0.3), row(40, 0.0)])
    every = [row(step, 0.3 if step < 10 else 0.0) for step in range(1, 41)]
    assert early_verdict(every[:28]) is None
    assert "at step 29" in early_verdict(every[:29])
    # After a resume the first row stands for the steps since then.
    assert early_verdict([{"step": 500}, row(501, 0.0)]) is None
    assert "at step 520" in early_verdict([{"step": 500}, row(520, 0.0)])
    # Two clips have little room, 7.85 nats, and are as different as can be.
    assert early_verdict([{**row(20, 1.0), "coding_rate": 7.8}, {**row(40, 1.0), "coding_rate": 7.8}]) is None


def test_targets_at_one_point_are_said_after_two_rows():
    rows = [{"step": 20 * n, "projection_std": value} for n, value in ((1, 0.9), (2, 0.04), (3, 0.03), (4, 0.5))]
    assert early_verdict(rows[:2]) is None
    assert "spread by 0.030 at step 60" in early_verdict(rows[:3])
    assert early_verdict(rows) is None
    assert early_verdict([]) is None
