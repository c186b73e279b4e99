"""Small heads on the encoder's vectors: linear ones and committees of one-layer networks, as stacks of matrices."""

from typing import NamedTuple

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier


class Variant(NamedTuple):
    """A way to make a head: which layers it looks at, and either the C of a linear head or the strength of decay."""

    layers: tuple
    c: float = 0.0
    decay: float = 0.0
    committee: int = 5
    hidden: int = 64


class Head(NamedTuple):
    """x[n, 13, 384] to logits[n, labels]: matrices applied to the chosen layers' means, with ReLU between."""

    layers: tuple
    stack: list  # of (weight[out, in], bias[out])

    def __call__(self, vectors):
        x = chosen(vectors, self.layers)
        for i, (weight, bias) in enumerate(self.stack):
            x = (np.maximum(x, 0) if i else x) @ weight.T + bias
        return x

    def rescaled(self, slope, shift):
        """The head whose logits are slope * logits + shift."""
        weight, bias = self.stack[-1]
        last = (weight * np.reshape(slope, (-1, 1)), bias * slope + shift)
        return Head(self.layers, [*self.stack[:-1], last])


def chosen(vectors, layers):
    return vectors[:, list(layers)].reshape(len(vectors), -1)


def train(variant, vectors, targets, weights, seed=0):
    """A head for targets[n, kinds] (several may hold) or targets[n] (one class of three)."""
    x = chosen(vectors, variant.layers)
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    scaled = (x - mean) / deviation
    if variant.c:
        stack = linear(variant, scaled, targets, weights)
    else:
        stack = committee(variant, scaled, targets, weights, seed)
    weight, bias = stack[0]
    stack[0] = (weight / deviation, bias - weight @ (mean / deviation))
    return Head(variant.layers, stack)


def linear(variant, x, targets, weights):
    def fit(target):
        model = LogisticRegression(C=variant.c, max_iter=400, tol=1e-3)
        return model.fit(x, target, sample_weight=weights)

    if targets.ndim == 1:
        model = fit(targets)
        return [(model.coef_, model.intercept_)]
    models = [fit(column) for column in targets.T]
    return [(np.concatenate([m.coef_ for m in models]), np.concatenate([m.intercept_ for m in models]))]


def committee(variant, x, targets, weights, seed):
    """The mean of several networks' logits, written as one wider network."""
    members = []
    for i in range(variant.committee):
        member = MLPClassifier(
            (variant.hidden,), alpha=variant.decay, learning_rate_init=2e-3, batch_size=128, max_iter=25, random_state=seed + i
        )
        members.append(member.fit(x, targets, sample_weight=weights))
    first = np.concatenate([m.coefs_[0].T for m in members]), np.concatenate([m.intercepts_[0] for m in members])
    last = np.concatenate([m.coefs_[1].T for m in members], axis=1) / len(members)
    return [first, (last, np.mean([m.intercepts_[1] for m in members], axis=0))]


def platt(logits, truth):
    """Slope and shift that make expit(slope * logit + shift) the share that is true."""
    model = LogisticRegression(C=100.0).fit(logits[:, None], truth)
    return model.coef_[0, 0], model.intercept_[0]


def temperature(logits, truth):
    """The slope with the best likelihood of the true classes."""
    slopes = np.geomspace(0.2, 5, 60)
    return min(slopes, key=lambda slope: log_loss(softmax(slope * logits, axis=1), truth))


def log_loss(chances, truth):
    return -np.log(np.clip(chances[np.arange(len(truth)), truth], 1e-9, 1)).mean()

