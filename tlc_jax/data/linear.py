"""What an accuracy must beat: the majority class, and a linear model of unigrams and bigrams of words."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Integer

from tlc_jax.data.labelled import Examples

_SIDES = "ab"


Predictions = dict[str, Integer[np.ndarray, "examples"]]


def baselines(train: Examples, others: dict[str, Examples]) -> dict[str, Predictions]:
    """{set: {'majority': classes, 'linear': classes}}: what models that saw `train` only say of each example.

    The linear model is scikit-learn's logistic regression on the presence of lower-case words and pairs
    of neighbours; the words of a pair's two texts are counted apart.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    analyzer: Any = _features  # scikit-learn takes a function too
    vectorizer = CountVectorizer(analyzer=analyzer, binary=True)
    model = LogisticRegression(max_iter=300)
    model.fit(vectorizer.fit_transform(train.texts), train.labels)
    majority = int(np.bincount(train.labels).argmax())
    return {
        name: {
            "majority": np.full(len(examples.labels), majority),
            "linear": np.asarray(model.predict(vectorizer.transform(examples.texts))),
        }
        for name, examples in others.items()
    }


def _features(texts: tuple[str, ...]) -> list[str]:
    found = []
    for side, text in zip(_SIDES, texts, strict=False):
        words = [f"{side}:{word}" for word in text.lower().split()]
        found += words
        found += [f"{one} {two}" for one, two in itertools.pairwise(words)]
    return found
