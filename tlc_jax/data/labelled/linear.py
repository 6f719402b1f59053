"""Baselines of a classification: the majority class, and a linear model of unigrams and bigrams of words."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Integer

from tlc_jax.core import stopping
from tlc_jax.core.native import abandonable
from tlc_jax.data.labelled.labelled_source import Examples

_SIDES = "ab"
_WEIGHTS = 10_000_000  # of the linear model at most: lbfgs keeps 25 vectors of this size
_ITERATIONS = 300
_WORK = 100_000_000_000  # multiplications at most: minutes of one core

Predictions = dict[str, Integer[np.ndarray, "examples"]]


def baselines(train: Examples, others: dict[str, Examples]) -> dict[str, Predictions]:
    """{set: {'majority': classes, 'linear': classes}}: the predictions of two models that saw only `train`.

    The linear model is scikit-learn's logistic regression on the presence of lower-case words and pairs
    of neighbours; the words of the two texts of a pair are different features. With many classes and a large
    vocabulary, it uses only the most frequent features, and is fitted for fewer iterations.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    majority = int(np.bincount(train.labels).argmax())
    predicted = {name: {"majority": np.full(len(split.labels), majority)} for name, split in others.items()}
    classes = len(set(train.labels))
    if classes == 1:  # which scikit-learn refuses
        return {name: {**both, "linear": both["majority"]} for name, both in predicted.items()}
    analyzer: Any = _features  # scikit-learn takes a function too
    rows_of_weights = classes if classes > 2 else 1
    vectorizer = CountVectorizer(analyzer=analyzer, binary=True, max_features=_WEIGHTS // rows_of_weights)
    features: Any = vectorizer.fit_transform(train.texts)
    iterations = max(1, min(_ITERATIONS, _WORK // (features.nnz * rows_of_weights)))
    model = LogisticRegression(max_iter=iterations)
    abandonable(lambda: model.fit(features, train.labels))
    for name, split in others.items():
        predicted[name]["linear"] = np.asarray(model.predict(vectorizer.transform(split.texts)))
    return predicted


def _features(texts: tuple[str, ...]) -> list[str]:
    stopping.check()
    features = []
    for side, text in zip(_SIDES, texts, strict=False):
        words = [f"{side}:{word}" for word in text.lower().split()]
        features += words
        features += [f"{first} {second}" for first, second in itertools.pairwise(words)]
    return features
