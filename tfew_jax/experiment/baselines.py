"""What a user would try first: the majority class, and TF-IDF with a linear model.

Both see exactly the rows that an adapter is trained on. TF-IDF reads the rendered
inputs of the first template; words that stand in every training row, such as the
template's own, tell nothing apart and are left out.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def predict_majority(labels: Sequence[int], num_rows: int) -> Int[np.ndarray, " rows"]:
    """The most frequent training label for every row, the smallest of equal ones."""
    return np.full(num_rows, np.argmax(np.bincount(np.asarray(labels, int))))


def predict_tfidf(
    train_texts: Sequence[str], labels: Sequence[int], texts: Sequence[str]
) -> Int[np.ndarray, " rows"]:
    """Logistic regression on TF-IDF vectors, both with scikit-learn's defaults.

    Where the rows have a single class, or no word that tells rows apart, the
    majority class is all that can be learned.
    """
    from sklearn import linear_model  # slow to import, and used once a run
    from sklearn.feature_extraction import text

    if len(set(labels)) < 2:
        return predict_majority(labels, len(texts))
    vectorizer = text.TfidfVectorizer(max_df=len(train_texts) - 1)
    try:
        vectors = vectorizer.fit_transform(train_texts)
    except ValueError:  # no word is left
        return predict_majority(labels, len(texts))
    classifier = linear_model.LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():  # of nearly as many classes as rows: so it is
        warnings.simplefilter("ignore", UserWarning)
        classifier.fit(vectors, np.asarray(labels, int))
    return np.asarray(classifier.predict(vectorizer.transform(texts)))
