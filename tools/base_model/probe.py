"""Sentiment of review sentences, cleaned with a linear probe on teacher vectors.

Movie reviews are labelled as whole documents, so the label of one sentence is noisy. A
logistic regression on teacher vectors, fitted on all review text and applied out of
fold, keeps the sentences whose label it confirms, and labels unlabelled review-like
sentences of the mixed corpus where it is sure.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn import linear_model, model_selection

from base_model import corpora

_REVIEWS = ("movie", "product", "pros_cons")
_CONFIRMED = 0.6  # probability a document's label needs for its sentence
_SURE = 0.93  # probability an unlabelled sentence needs


def sentiment(
    vectors: Float[np.ndarray, "texts embed"] | None, texts: Sequence[corpora.Text]
) -> Float[np.ndarray, "texts"]:
    """Probability that a text is positive; NaN where it is not known well enough.

    Args:
        vectors: The teacher's; without a teacher the labels are taken as they are.
        texts: The texts.
    """
    kinds = np.array([t.kind for t in texts])
    labelled = np.isin(kinds, _REVIEWS)
    labels = np.array([t.label if t.kind in _REVIEWS else -1 for t in texts], int)
    out = np.full(len(texts), np.nan, np.float32)
    if vectors is None or min(np.bincount(labels[labelled], minlength=2)) < 10:
        out[labelled] = labels[labelled]
        return out
    features = vectors.astype(np.float32) * np.sqrt(vectors.shape[1])
    model = linear_model.LogisticRegression(C=0.05, max_iter=300)
    both = model_selection.cross_val_predict(
        model, features[labelled], labels[labelled], cv=5, method="predict_proba"
    )
    found = np.asarray(both)[:, 1]
    noisy = kinds[labelled] == "movie"
    agrees = np.abs(labels[labelled] - found) < 1 - _CONFIRMED
    out[labelled] = np.where(
        noisy, np.where(agrees, labels[labelled], np.nan), labels[labelled]
    )
    domain = linear_model.LogisticRegression(C=0.05, max_iter=300)
    mixed = np.array([t.corpus == "nlp_corpus" for t in texts])
    domain.fit(features[~mixed], labelled[~mixed])
    model.fit(features[labelled], labels[labelled])
    if mixed.any():
        like_review = domain.predict_proba(features[mixed])[:, 1] > 0.9
        positive = model.predict_proba(features[mixed])[:, 1]
        sure = like_review & (np.maximum(positive, 1 - positive) > _SURE)
        out[mixed] = np.where(sure, positive > 0.5, np.nan)
    return out
