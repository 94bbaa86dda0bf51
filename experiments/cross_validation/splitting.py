"""Three parts and K folds: which rows are where, and when the test part is read."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.cross_validation.samples import build
from jaxdl import run
from jaxdl.data import Batches, Data, hold_out, k_folds, load_table, split
from jaxdl.run import Quantity

NOTES = 5, 4590  # the notes' folds and random state


def parts(each: Sequence[Any], y: np.ndarray) -> run.Finding:
    """Draws the three parts of every row number, twice with one seed and once with another."""

    def drawn(seed: int) -> list[np.ndarray]:
        rest, test = split({"row": np.arange(len(y)), "y": y}, 0.2, seed, stratify="y")
        train, valid = hold_out(rest, max(each[0].valid_fraction, 0.05), seed, "digits", stratify="y")
        assert valid is not None
        return [train["row"], valid["row"], test["row"]]

    first, again, other = ([drawn(c.seed + i) for c in each] for i in (0, 0, 1))
    counts = [np.bincount(np.concatenate(rows), minlength=len(y)) for rows in first]
    differ = [sum(np.sum(a != b) for a, b in zip(*pair, strict=True)) for pair in zip(first, again, strict=True)]
    common = [len(np.intersect1d(a[2], b[2])) / len(a[2]) for a, b in zip(first, other, strict=True)]
    return run.measured(
        "parts",
        Quantity("rows in two parts", [np.sum(c > 1) for c in counts], "==", 0),
        Quantity("rows in none", [np.sum(c == 0) for c in counts], "==", 0),
        Quantity("rows that differ when drawn again", differ, "==", 0),
        Quantity("share of the test part that another seed draws too", common, "<", 0.5),
    )


def untouched(each: Sequence[Any], x: np.ndarray, y: np.ndarray) -> run.Finding:
    """Trains with early stopping and records when the test part is read; then with a test part of noise, and none.

    These fits are never stored, so that the test part is read in every run.
    """
    early, late, changed = [], [], []
    for c in each:
        config = c.replace(workdir=None, steps=60, patience=2, monitor="loss", eval_every=2, monitor_mode="min",
                           init=None, init_skip=None, learning_rate=0.5, schedule="constant")  # fmt: skip
        rest, test = split({"x": x, "y": y[:, None]}, 0.2, c.seed)
        train, valid = hold_out(rest, 0.1, c.seed, "digits")
        assert valid is not None
        events = list[str]()

        def take(arrays: Any, rows: Any, events: list[str] = events) -> Any:
            events.append("test")
            return {name: values[rows] for name, values in arrays.items()}

        counted = lambda part: part | {"mask": np.ones((len(part["y"]), 1), np.float32)}
        noise = counted({"x": np.random.default_rng(c.seed).random(test["x"].shape), "y": np.flip(test["y"], 0)})
        watched = Batches(counted(test), 256, take=take, length=len(test["y"]))
        facts = {"classes": 10, "rates": [1.0], "penalties": [0.0]}
        fits = []
        for tested in (watched, Batches(noise, 256), None):
            d = Data(Batches(counted(train), 256), Batches(counted(valid), 256), tested, facts=facts)
            note = lambda row, events=events: events.append("row" if "valid/loss" in row else "")
            fits.append(run.fit(build(config, d), d, config, on_row=note if tested is watched else None))
        at = events.index("test")
        early.append(events[at:].count("row"))
        late.append(events.count("test"))
        weights = [fit.state.learner.params["kernel"] for fit in fits]
        changed.append(sum(np.sum(w != weights[0]) for w in weights) + sum(f.valid != fits[0].valid for f in fits))
    return run.measured(
        "untouched",
        Quantity("evaluations after the test part was first read", early, "==", 0),
        Quantity("test batches read after the last step", late, ">", 0),
        Quantity("weights and scores that a test part of noise, or none, changes", changed, "==", 0),
    )


def dealt(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the test fold of each row, int [N]: scikit-learn's stratified folds, written again.

    The rows, ordered by class, are dealt to the folds in turn, so that the counts of a class differ by at most one.
    Each class then shuffles the folds that it was dealt among its rows; classes come in the order of their first rows.
    """
    random, found, start = np.random.RandomState(seed), np.empty(len(y), int), 0
    for label in dict.fromkeys(y.tolist()):
        rows = np.flatnonzero(y == label)
        own = np.sort(np.arange(start, start + len(rows)) % count)
        random.shuffle(own)
        found[rows], start = own, start + len(rows)
    return found


def folds(y: np.ndarray) -> run.Finding:
    """Splits three data sets as the notes do and compares the folds with scikit-learn's and with `dealt`."""
    from sklearn.model_selection import StratifiedKFold

    count, seed = NOTES
    often, uneven, differ, unlike = [], [], [], []
    for labels in (y, load_table("wine").y, load_table("breast_cancer").y):
        ours = k_folds({"row": np.arange(len(labels)), "y": labels}, count, seed)
        peers = StratifiedKFold(n_splits=count, shuffle=True, random_state=seed).split(labels, labels)
        tests = [test["row"] for _, test in ours]
        often.append(np.sum(np.bincount(np.concatenate(tests), minlength=len(labels)) != 1))
        counts = np.array([np.bincount(labels[rows]) for rows in tests])
        uneven.append(np.ptp(counts, axis=0).max())
        pairs = [(a["row"], b) for pair, peer in zip(ours, peers, strict=True) for a, b in zip(pair, peer, strict=True)]
        differ.append(sum(not np.array_equal(a, b) for a, b in pairs))
        own = dealt(labels, count, seed)
        unlike.append(sum(np.sum(own[rows] != k) for k, rows in enumerate(tests)))
    return run.measured(
        "folds",
        Quantity("rows that are not in exactly one test fold", sum(often), "==", 0),
        Quantity("largest difference of a class's rows between folds", max(uneven), "<=", 1),
        Quantity("index arrays that differ from StratifiedKFold", sum(differ), "==", 0, "of 30"),
        Quantity("rows in another fold than by the assignment in NumPy", sum(unlike), "==", 0, "of 2,544"),
    )
