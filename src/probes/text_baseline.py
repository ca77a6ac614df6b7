"""What the words alone give away: the accuracy that every probe must stand beside.

TF-IDF over words and word pairs with a linear SVM, as in public replications; it reads 0.756 on a published corpus of
3,000 stories on which activation probes read 0.84 to 0.92. Of 100,000 stories the commonest words and pairs are kept, so
that 171 classes fit in memory; smaller corpora have no more.
"""

from collections.abc import Sequence

import numpy as np

from probes.errors import DataError

MOST_TERMS = 300_000
"""Words and pairs that are told apart: 0.4 GB of weights for 171 emotions."""
Strings = Sequence[str] | np.ndarray


def text_accuracy(train_texts: Strings, train_labels: Strings, test_texts: Strings, test_labels: Strings) -> float:
    """Share of test texts whose label a bag of words and word pairs predicts."""
    reader = _reader(train_texts, train_labels)
    return float(np.mean(reader.predict(list(test_texts)) == np.asarray(test_labels)))


def text_scores(train_texts: Strings, train_labels: Strings, test_texts: Strings) -> tuple[tuple[str, ...], np.ndarray]:
    """The labels, sorted, and how strongly the words of each test text speak for each: float (text, label)."""
    reader = _reader(train_texts, train_labels)
    scores = reader.decision_function(list(test_texts))
    if scores.ndim == 1:  # of two labels scikit-learn gives the second one's score alone
        scores = np.stack([-scores, scores], axis=1)
    return tuple(map(str, reader.classes_)), scores


def _reader(texts: Strings, labels: Strings):
    from sklearn.feature_extraction.text import TfidfVectorizer  # 6 s to import: only where it is needed
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    reader = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), max_features=MOST_TERMS), LinearSVC(random_state=0))
    try:
        return reader.fit(list(texts), list(labels))
    except ValueError as error:
        raise DataError(
            f"no text baseline can be learned from {len(texts)} texts of {len(set(labels))} labels: {error}. Give texts with "
            "words, of two labels or more."
        ) from error


def text_auc(texts: Strings, of_first: Sequence[bool] | np.ndarray, groups: Strings, folds: int = 5) -> float:
    """Area under the curve of words alone that tell two kinds of texts apart, on groups that they have not seen.

    .5 where both say the same: a text that both kinds have is a tie. Raises DataError for fewer groups than folds, or where
    not both kinds are in every fold.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    said, labels, of = np.asarray(texts, object), np.asarray(of_first, bool), np.asarray(groups)
    if len(set(of.tolist())) < folds or labels.all() or not labels.any():
        raise DataError(
            f"{len(said)} texts of {len(set(of.tolist()))} groups, {labels.sum()} of the first kind: {folds} groups with texts "
            "of both kinds are needed to tell them apart."
        )
    scores = np.empty(len(said))
    for seen, unseen in GroupKFold(folds).split(said, labels, of):
        scores[unseen] = text_scores(said[seen], labels[seen].astype(str), said[unseen])[1][:, 1]
    return float(roc_auc_score(labels, scores))
