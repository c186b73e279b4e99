"""Calibration and thresholds, chosen on the development situations, and the scores that they and `make eval` report."""

import numpy as np
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from outputs import FOREIGN, INTEREST, NEXT_STEP, OBJECTIONS, OUTPUTS, SENTIMENT
from sentences import KINDS, LANGUAGES, SENTIMENTS

NOTHING = np.ones(OUTPUTS), np.zeros(OUTPUTS)
PRECISION = 0.9  # wanted of each kind's threshold, and of the next step's
INTEREST_PRECISION = 0.8  # nobody is interrupted for it
FLOOR, CEILING = 0.3, 0.95  # thresholds stay between
FOREIGN_PRECISION = 0.99  # a sentence wrongly taken for foreign loses its objection


def choose(rows, logits):
    """((slopes, shifts) of the logits, the thresholds as labels.json has them)."""
    slope, shift = (part.copy() for part in NOTHING)
    truth, asked = answers(rows)
    for place in (*range(len(KINDS)), NEXT_STEP, INTEREST, FOREIGN):
        here = asked[:, place]
        slope[place], shift[place] = platt(logits[here, place], truth[here, place])
    here = asked[:, SENTIMENT.start]
    slope[SENTIMENT] = temperature(logits[here, SENTIMENT], truth[here, SENTIMENT].argmax(axis=1))
    chances = expit(logits * slope + shift)
    cut = [threshold(chances[asked[:, place], place], truth[asked[:, place], place], PRECISION) for place in range(len(KINDS))]
    single = {
        name: threshold(chances[asked[:, place], place], truth[asked[:, place], place], precision)
        for name, place, precision in (
            ("next_step_threshold", NEXT_STEP, PRECISION),
            ("interest_threshold", INTEREST, INTEREST_PRECISION),
            ("foreign_threshold", FOREIGN, FOREIGN_PRECISION),
        )
    }
    return (slope, shift), {"thresholds": dict(zip(KINDS, cut)), **single}


def answers(rows):
    """bool[rows, 14] what holds, and where it is known."""
    truth, asked = np.zeros((len(rows), OUTPUTS), bool), np.zeros((len(rows), OUTPUTS), bool)
    for number, row in enumerate(rows):
        truth[number, [KINDS.index(kind) for kind in row["objections"]]] = True
        truth[number, [NEXT_STEP, INTEREST]] = row.get("next_step", False), row.get("interest", False)
        truth[number, FOREIGN] = row["source"] == "foreign"
        asked[number] = row["source"] != "foreign"
        asked[number, INTEREST] = row["source"] in LANGUAGES
        asked[number, FOREIGN] = True
        if "sentiment" in row:
            truth[number, SENTIMENT.start + SENTIMENTS.index(row["sentiment"])] = True
    return truth, asked


def platt(logits, truth):
    """Slope and shift that make expit(slope * logit + shift) the share that is true."""
    if truth.all() or not truth.any():
        return 1.0, 0.0
    model = LogisticRegression(C=100.0).fit(logits[:, None], truth)
    return model.coef_[0, 0], model.intercept_[0]


def temperature(logits, truth):
    """The slope with the best likelihood of the true classes."""

    def cost(slope):
        chances = softmax(slope * logits, axis=1)
        return -np.log(np.clip(chances[np.arange(len(truth)), truth], 1e-9, 1)).mean()

    return min(np.geomspace(0.2, 5, 100), key=cost)


def threshold(chances, truth, precision):
    """Where F1 is best among the thresholds of at least that precision; where none has it, where F0.5 is best."""
    tried = np.arange(FLOOR, CEILING + 0.001, 0.005)
    scores = []
    for cut in tried:
        flagged = chances >= cut
        right, found, there = (truth & flagged).sum(), max(1, flagged.sum()), max(1, truth.sum())
        p, r = right / found, right / there
        scores.append((p >= precision, 2 * p * r / max(p + r, 1e-9), 1.25 * p * r / max(0.25 * p + r, 1e-9)))
    good = [place for place, (enough, _, _) in enumerate(scores) if enough and scores[place][1] > 0]
    best = max(good, key=lambda place: scores[place][1]) if good else int(np.argmax([score[2] for score in scores]))
    return round(float(tried[best]), 3)


def f1(right, found, there):
    return 2 * right / (found + there) if found + there else 0.0


def objection_scores(truth, flagged):
    """Micro- and macro-F1, precision and recall of bool[rows, 8]."""
    right, found, there = (truth & flagged).sum(axis=0), flagged.sum(axis=0), truth.sum(axis=0)
    kinds = [float(f1(*counts)) for counts in zip(right, found, there)]
    return {
        "micro_f1": float(f1(right.sum(), found.sum(), there.sum())),
        "macro_f1": float(np.mean(kinds)),
        "precision": float(right.sum() / max(1, found.sum())),
        "recall": float(right.sum() / max(1, there.sum())),
        "kinds": dict(zip(KINDS, kinds)),
    }


def calibration_error(confidence, right, bins=10):
    """The mean distance between what is claimed and what holds, over tenths of confidence."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [places == i for i in range(bins)]
    return float(sum(part.mean() * abs(confidence[part].mean() - right[part].mean()) for part in parts if part.any()))


def show(title, rows, logits):
    """A line a language: F1 at a threshold of a half, hard negatives flagged, sentiment right."""
    truth, _ = answers(rows)
    flagged, picked = logits[:, OBJECTIONS] >= 0, logits[:, SENTIMENT].argmax(axis=1)
    for language in LANGUAGES:
        here = np.array([row["source"] == language for row in rows])
        hard = np.array([row.get("hard", False) for row in rows]) & here
        scores = objection_scores(truth[here][:, OBJECTIONS], flagged[here])
        right = picked[here] == truth[here][:, SENTIMENT].argmax(axis=1)
        print(f"  {title}, {language}: micro-F1 {scores['micro_f1']:.3f}, macro-F1 {scores['macro_f1']:.3f}, "
              f"hard negatives flagged {flagged[hard].any(axis=1).mean():.3f}, sentiment {right.mean():.3f}", flush=True)
