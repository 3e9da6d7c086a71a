"""The quality filter of GPT-3's Common Crawl (Brown et al. 2020, appendix A).

A logistic regression over hashed words learns to distinguish curated text from the crawl. A
document is kept if a draw from a Pareto distribution exceeds 1 - its score: most text that reads
like curated text is kept, and some of the rest too, so that the filter does not narrow the corpus
to the likes of its examples. The draw is derived from the document's content, so that it is the
same wherever the document is and however many processes work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.settings.text import QualityConfig

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Classifier:
    """Weights of the hashed words; `scores` estimates how likely texts are to be curated."""

    weights: npt.NDArray[np.float64]  # (features,)
    bias: float

    def scores(self, texts: Sequence[str]) -> Floats:
        """Shape (texts,), from 0 to 1."""
        logits = _hashing(len(self.weights)).transform(texts) @ self.weights + self.bias
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def learn(curated: Sequence[str], crawled: Sequence[str], config: QualityConfig) -> Classifier:
    """Trains the classifier. Neither class may be empty."""
    from sklearn.linear_model import LogisticRegression

    features = _hashing(config.features).transform([*curated, *crawled])
    labels = np.repeat([1, 0], [len(curated), len(crawled)])
    # Both classes have equal weight regardless of their size, so that a score of 1/2 means
    # that a document could be either.
    model = LogisticRegression(class_weight="balanced", max_iter=200)
    model.fit(features, labels)
    return Classifier(weights=model.coef_[0].astype(np.float64), bias=float(model.intercept_[0]))


def stays(scores: Floats, digests: npt.NDArray[np.uint64], alpha: float) -> npt.NDArray[np.bool_]:
    """The paper's rule, numpy.random.pareto(alpha) > 1 - score, with a draw from each digest."""
    uniform = (digests >> np.uint64(11)).astype(np.float64) / 2**53
    pareto = (1 - uniform) ** (-1 / alpha) - 1  # NumPy's, by inversion, which starts at 0
    return pareto > 1 - scores


@cache
def _hashing(features: int) -> Any:
    # The paper's Tokenizer and HashingTF of Spark: lower case, split at white space, counted.
    # Counts are scaled to length 1, as otherwise long documents alone determine the weights.
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=features, token_pattern=r"\S+", alternate_sign=False)
