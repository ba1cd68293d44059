"""Logistic regression on features of videos: its penalty by cross-validation over groups, and the confidence a name needs.

N videos, D features, K classes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

PENALTIES = np.logspace(-4, 2, 7)
"""Inverse strengths C of the L2 penalty from which cross-validation chooses."""
FOLDS = 5
PARTS = 10
"""Parts of the classes, of which each in turn is unknown."""
LEAST = 10
"""Names that must be given before the share of right ones says anything."""


@dataclasses.dataclass(frozen=True)
class Linear:
    """A fitted classifier: softmax((x - mean) / scale @ weight.T + bias)."""

    mean: np.ndarray
    """float64 [D], as all others."""
    scale: np.ndarray
    """[D]"""
    weight: np.ndarray
    """[K, D]; zero for a class without training videos."""
    bias: np.ndarray
    """[K]; -inf for a class without training videos."""

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Returns the probability of each class, [..., K], for features [..., D]."""
        logits = (x - self.mean) / self.scale @ self.weight.T + self.bias
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """From which confidence on a name is given, and what happened at it with videos that were held out of training.

    Shares are from 0 to 1. Known and unknown videos count the same, one half each, if there are both.
    """

    confidence: float
    asked: float
    """The share of the given names that should be right."""
    precision: float
    """The share that is: `asked` or more, or the highest that can be reached."""
    right: float
    """Share of the videos with a known class that get their name."""
    wrong: float
    """Share of them that get another name."""
    unknown_named: float | None
    """Share of the videos with an unknown class that get a name. None: with two classes, none can be left out."""
    num_videos: int
    """Number of videos that were asked with their class known."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """The outcome of `fit`."""

    line: Linear
    penalty: float
    """The C that was chosen."""
    losses: dict[float, float]
    """Mean log loss of held-out videos by C."""
    accuracy: float
    """Share of held-out videos whose most probable class is right, in the cross-validation."""
    threshold: Threshold


def fit(x: np.ndarray, labels: np.ndarray, groups: Sequence[str], num_classes: int, precision: float = 0.8) -> Fit:
    """Fits a logistic regression, and the confidence from which on its names are right often enough.

    The penalty is the one with the least log loss in up to 5-fold cross-validation. No group is divided between folds.

    The threshold comes from the same held-out predictions, of videos whose class is known, and from those of fits without a
    class (or a tenth of the classes) about the videos of that class: no name for them is right. It is the lowest confidence
    such that a share `precision` of the names given from it on is right, and from each higher one that gives 10 names or more.
    If there is none, it is the confidence with the highest share, among those that give 10 names or more.

    Args:
        x: features, [N, D].
        labels: classes, int64 [N], in [0, K).
        groups: group of each video: videos of one recording or person.
        num_classes: K.
        precision: share of the given names that should be right.

    Raises:
        ValueError: no video can be held out, because there are too few classes or groups.
        ImportError: scikit-learn is not installed.
    """
    x = x.astype(np.float64)
    folds = list(_folds(labels, groups))
    if not folds:
        raise ValueError(
            f"logistic regression's cross-validation needs two classes with two groups of videos each, got "
            f"{len(np.unique(labels))} classes in {len(set(groups))} groups: add videos of other recordings"
        )
    asked = np.concatenate([out for _, out in folds])
    truth = labels[asked]
    found = {}
    for penalty in PENALTIES.tolist():
        lines = [_fit(x[inside], labels[inside], penalty, num_classes) for inside, _ in folds]
        found[penalty] = np.concatenate([line.probabilities(x[out]) for line, (_, out) in zip(lines, folds, strict=True)])
    losses = {c: float(-np.log(p[range(len(truth)), truth].clip(1e-12)).mean()) for c, p in found.items()}
    penalty = min(losses, key=lambda c: losses[c])
    known = found[penalty]
    right = known.argmax(1) == truth
    unknown = _of_unknown(x, labels, np.asarray(groups), penalty, num_classes)
    threshold = calibrated(known.max(1), right, unknown, precision)
    return Fit(_fit(x, labels, penalty, num_classes), penalty, losses, float(right.mean()), threshold)


def calibrated(known: np.ndarray, right: np.ndarray, unknown: np.ndarray, precision: float = 0.8) -> Threshold:
    """Returns the threshold by the confidence of videos of known classes, [A], whether their names are right, bool [A], and the
    confidence of videos of unknown classes, [B], which may be empty."""
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in (known, unknown) if len(part)])
    values, hits = np.concatenate([known, unknown]), np.concatenate([right, np.zeros(len(unknown), bool)])
    least = min(LEAST, len(values))
    lowest = lowest_confidence(values, hits, weights, precision=precision, least=least)
    if np.isinf(lowest):
        lowest = max(_cuts(values, hits, weights, least), key=lambda cut: cut[1])[0]
    given = values >= lowest
    return Threshold(
        confidence=lowest,
        asked=precision,
        precision=float((weights * hits)[given].sum() / weights[given].sum()),
        right=float((known >= lowest)[right].sum() / len(known)),
        wrong=float((known >= lowest)[~right].sum() / len(known)),
        unknown_named=float((unknown >= lowest).mean()) if len(unknown) else None,
        num_videos=len(known),
    )


def lowest_confidence(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray, *, precision: float, least: int) -> float:
    """Returns the lowest confidence such that a share `precision` of the names given from it on is right, and from each higher
    confidence on that gives `least` names or more. It is rounded down to thousandths; infinite if there is none.

    Args:
        confidence: of each video's name, [V].
        right: whether the name is right, bool [V].
        weights: how much each video counts, [V].
        precision: the share, from 0 to 1.
        least: a number of names.
    """
    lowest = np.inf
    for value, share in _cuts(confidence, right, weights, least):
        if share < precision:
            break
        lowest = value
    return lowest


def _cuts(confidence: np.ndarray, right: np.ndarray, weights: np.ndarray, least: int) -> Iterator[tuple[float, float]]:
    """Yields each confidence that gives `least` names or more, from the highest on, rounded down to thousandths, and the share
    of the names given from it on that is right."""
    order = np.argsort(-confidence, kind="stable")
    values, given, hits = confidence[order], np.cumsum(weights[order]), np.cumsum((weights * right)[order])
    for i in range(least - 1, len(order)):
        if i + 1 == len(order) or values[i + 1] < values[i]:
            yield float(np.floor(1e3 * values[i]) / 1e3), float(hits[i] / given[i])


def _folds(labels: np.ndarray, groups: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields which videos to fit and which to ask. Only videos are asked whose class is among the others, of two or more."""
    _, model_selection = _sklearn()
    several = [len({g for g, one in zip(groups, labels, strict=True) if one == label}) for label in np.unique(labels)]
    if len(several) < 2 or max(several) < 2:
        return
    split = model_selection.StratifiedGroupKFold(min(FOLDS, max(several)), shuffle=True, random_state=0)
    with warnings.catch_warnings():  # a class with fewer groups than folds is not asked in each
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for inside, out in split.split(labels[:, None], labels, groups):
            there = np.unique(labels[inside])
            out = out[np.isin(labels[out], there)]
            if len(there) > 1 and len(out):
                yield inside, out


def _of_unknown(x: np.ndarray, labels: np.ndarray, groups: np.ndarray, penalty: float, num_classes: int) -> np.ndarray:
    """Returns the confidence of names for videos whose class, and group, the fit does not know, [at most N]."""
    classes = np.random.default_rng(0).permutation(np.unique(labels))
    found = [np.zeros(0)]
    for part in np.array_split(classes, min(PARTS, len(classes))):
        out = np.isin(labels, part)
        inside = ~out & ~np.isin(groups, groups[out])
        if len(np.unique(labels[inside])) < len(classes) - len(part):  # groups hold many classes
            inside = ~out
        if len(np.unique(labels[inside])) > 1:
            found.append(_fit(x[inside], labels[inside], penalty, num_classes).probabilities(x[out]).max(1))
    return np.concatenate(found)


def _fit(x: np.ndarray, labels: np.ndarray, penalty: float, num_classes: int) -> Linear:
    linear_model, _ = _sklearn()
    mean, scale = x.mean(0), x.std(0)
    scale[scale < 1e-12] = 1
    line = linear_model.LogisticRegression(C=penalty, max_iter=2000).fit((x - mean) / scale, labels)
    coefficients, intercept = line.coef_, line.intercept_
    if len(line.classes_) == 2:  # scikit-learn has one row for two classes: the difference of their logits
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weight, bias = np.zeros((num_classes, x.shape[1])), np.full(num_classes, -np.inf)
    weight[line.classes_], bias[line.classes_] = coefficients, intercept
    return Linear(mean, scale, weight, bias)


def _sklearn():  # type: ignore[no-untyped-def]
    try:
        from sklearn import linear_model, model_selection
    except ImportError as error:
        raise ImportError("logistic regression needs scikit-learn: pip install 'vie_models[train]'") from error
    return linear_model, model_selection
