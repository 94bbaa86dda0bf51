"""What image_classifier shows beside its network: other people's classifiers, the confusions, the worst mistakes."""

import numpy as np

from jaxdl import metrics, run
from jaxdl.data import Images, unit
from jaxdl.run import plots


def baselines(images: Images) -> dict[str, float]:
    """Test accuracies of scikit-learn's classifiers on the same split, where they take seconds, not hours."""
    if images.train["x"].size > 2e6:  # an SVC on 10,000 CIFAR images takes five minutes
        return {}
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    (x, y), (test_x, test_y) = ((unit(p["x"]).reshape(len(p["x"]), -1), p["y"]) for p in (images.train, images.test))
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    models = {"SVC-RBF": SVC(C=10.0), "logistic regression": linear}
    return {name: model.fit(x, y).score(test_x, test_y) for name, model in models.items()}


def draw(config: run.RunConfig, images: Images, probabilities: np.ndarray) -> None:
    """The confusion matrix and the worst mistakes."""
    labels, predictions = images.test["y"], probabilities.argmax(-1)
    matrix = metrics.confusion_matrix(labels, predictions, len(images.names))
    run.save_figure(config, "confusion", lambda: plots.confusion(matrix, images.names))
    wrong = np.flatnonzero(predictions != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:32]
    if len(worst):
        titles = [f"{images.names[labels[i]]} as {images.names[predictions[i]]}" for i in worst]
        title = f"{len(worst)} worst of {len(wrong)} mistakes: class, as what"
        shown = unit(images.test["x"][worst])
        run.save_figure(config, "mistakes", lambda: plots.image_grid(shown, titles, title=title))
