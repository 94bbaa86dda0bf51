from experiments.classification import LABELS


def test_labels_of_the_digits():
    kinds = ("even", "prime", "high", "loop")
    named = [{kind for kind, on in zip(kinds, row, strict=True) if on} for row in LABELS]
    assert named == [
        {"even", "loop"}, set(), {"even", "prime"}, {"prime"}, {"even"},
        {"prime", "high"}, {"even", "high", "loop"}, {"prime", "high"}, {"even", "high", "loop"}, {"high", "loop"},
    ]  # fmt: skip
