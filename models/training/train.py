"""Trains the insights model's heads on the project's own sentences and writes models/insights/: heads.npz,
labels.json and the measured quality, report.json, from which the model card's tables are printed.

    make train

The encoder stays as it is. The situations held out are touched once, by the last lines of the report; everything is
chosen on the others, each sentence judged by heads that have not seen its situation.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score

import report
from heads import Variant, platt, temperature, train
from sentences import FOLDS, KINDS, LANGUAGES, ROOT, SENTIMENTS, Encoder, as_spoken, default_cache, fold, is_test, own, shared

OUT = ROOT / "models" / "insights"
VERSION = "2026-11-23"
PRECISION = 0.9  # wanted of each kind's threshold
FLOOR, CEILING = 0.3, 0.95  # thresholds stay between

LAST, UPPER, SPREAD, MANY, ALL = (12,), (8, 10, 12), (5, 8, 11), (4, 6, 8, 10, 12), tuple(range(13))
VARIANTS = {
    "linear, last layer, C 0.01": Variant(LAST, c=0.01),
    "linear, layers 8 10 12, C 0.003": Variant(UPPER, c=0.003),
    "linear, layers 8 10 12, C 0.03": Variant(UPPER, c=0.03),
    "linear, layers 5 8 11, C 0.001": Variant(SPREAD, c=0.001),
    "linear, layers 5 8 11, C 0.003": Variant(SPREAD, c=0.003),
    "linear, layers 4 6 8 10 12, C 0.0003": Variant(MANY, c=0.0003),
    "linear, layers 4 6 8 10 12, C 0.001": Variant(MANY, c=0.001),
    "linear, layers 4 6 8 10 12, C 0.003": Variant(MANY, c=0.003),
    "linear, all layers, C 0.0003": Variant(ALL, c=0.0003),
    "linear, all layers, C 0.001": Variant(ALL, c=0.001),
    "network, last layer, decay 1": Variant(LAST, decay=1.0),
    "network, layers 8 10 12, decay 10": Variant(UPPER, decay=10.0),
}
SENTIMENT_VARIANTS = ("linear, layers 8 10 12, C 0.003", "linear, layers 4 6 8 10 12, C 0.001", "linear, all layers, C 0.0003")
OTHERS = {"none": 0.0, "VADER and XED at 0.1": 0.1, "VADER and XED at 0.3": 0.3}


class Set:
    """Sentences as vectors, as written and as speech recognition would write them, with their labels."""

    def __init__(self, encode, rows):
        self.rows = rows
        self.written = encode([row["text"] for row in rows])
        self.spoken = encode([as_spoken(row["text"]) for row in rows]) if "situation" in rows[0] else None
        self.sentiment = np.array([SENTIMENTS.index(row["sentiment"]) for row in rows])
        self.objections = np.array([[kind in row.get("objections", ()) for kind in KINDS] for row in rows], int)
        self.next_step = np.array([[row.get("next_step", False)] for row in rows], int)

    def both(self, chosen):
        """Vectors of both forms, and a function that doubles labels to match."""
        return np.concatenate([self.written[chosen], self.spoken[chosen]]), lambda labels: np.concatenate([labels[chosen]] * 2)


def fit(variant, data, chosen, target, others=None, share=0.0):
    vectors, double = data.both(chosen)
    targets, weights = double(getattr(data, target)), np.ones(len(vectors))
    if others and share:
        vectors = np.concatenate([vectors, others.written])
        targets = np.concatenate([targets, getattr(others, target)])
        weights = np.concatenate([weights, np.full(len(others.rows), share)])
    return train(variant, vectors, targets, weights)


def unseen(variant, data, folds, target, others=None, share=0.0):
    """Logits of every sentence from heads that have not seen its situation."""
    logits = None
    for part in range(FOLDS):
        head = fit(variant, data, np.flatnonzero(folds != part), target, others, share)
        found = head(data.written[folds == part])
        logits = np.zeros((len(folds), found.shape[1])) if logits is None else logits
        logits[folds == part] = found
    return logits


def choose_objections(data, folds, tried):
    """The variant with the best mean average precision over the kinds."""
    for name, variant in VARIANTS.items():
        logits = unseen(variant._replace(committee=1), data, folds, "objections")
        tried[name] = float(np.mean([average_precision_score(data.objections[:, k], logits[:, k]) for k in range(8)]))
        print(f"  objections: {name}: average precision {tried[name]:.3f}", flush=True)
    return max(tried, key=tried.get)


def choose_sentiment(data, folds, others, tried):
    """The variant and the weight of the other data with the best accuracy."""
    choices = {}
    for name in SENTIMENT_VARIANTS:
        for source, share in OTHERS.items() if others else [("none", 0.0)]:
            key = f"{name}; others: {source}"
            choices[key] = (name, share)
            logits = unseen(VARIANTS[name]._replace(committee=1), data, folds, "sentiment", others, share)
            tried[key] = float((logits.argmax(axis=1) == data.sentiment).mean())
            print(f"  sentiment: {key}: accuracy {tried[key]:.3f}", flush=True)
    best = max(tried, key=tried.get)
    return best, *choices[best]


def choose_next_step(data, folds, tried):
    """The variant with the best average precision."""
    for name in SENTIMENT_VARIANTS:
        logits = unseen(VARIANTS[name], data, folds, "next_step")
        tried[name] = float(average_precision_score(data.next_step[:, 0], logits[:, 0]))
        print(f"  next step: {name}: average precision {tried[name]:.3f}", flush=True)
    return max(tried, key=tried.get)


def learn_next_step(data, folds, test):
    """The head, its threshold, and what it is worth."""
    tried = {}
    best = choose_next_step(data, folds, tried)
    logits = unseen(VARIANTS[best], data, folds, "next_step")
    slope, shift = platt(logits[:, 0], data.next_step[:, 0])
    chances = expit(logits * slope + shift)
    cut = threshold(chances[:, 0], data.next_step[:, 0])
    head = fit(VARIANTS[best], data, np.arange(len(data.rows)), "next_step").rescaled(slope, shift)
    measured = {
        "chosen": best,
        "tried": tried,
        "threshold": cut,
        "training": report.next_step(data, chances, cut),
        "test": report.next_step(test, expit(head(test.written)), cut),
        "test_as_spoken": report.next_step(test, expit(head(test.spoken)), cut),
    }
    return head, measured


def threshold(chances, truth):
    """The lowest threshold from which precision is as wanted; where it never is, the one with the best F0.5."""
    order = np.argsort(-chances)
    right = np.cumsum(truth[order])
    precision, recall = right / np.arange(1, len(order) + 1), right / max(1, truth.sum())
    enough = np.flatnonzero((precision >= PRECISION) & (recall >= 0.2))
    balance = 1.25 * precision * recall / np.maximum(0.25 * precision + recall, 1e-9)
    at = enough[-1] if len(enough) else int(balance.argmax())
    return float(np.clip(round(float(chances[order[at]]), 3), FLOOR, CEILING))


def other_sentiment():
    """Sentences of other sets with a sentiment; none where they are missing."""
    parts = [shared("vader_ground_truth_en", 1500, split="train", domain="amazon")]
    parts += [shared("xed_dialogue_en_es_fr_zh", 900, split="train", lang=language) for language in LANGUAGES]
    return [{"text": row["text"], "sentiment": row["label"]} for part in parts if part for row in part]


def save(heads, thresholds, next_step):
    arrays = {}
    for name, head in heads.items():
        arrays[f"{name}.layers"] = np.array(head.layers, np.int8)
        for i, (weight, bias) in enumerate(head.stack):
            arrays[f"{name}.weight.{i}"] = weight.astype(np.float16)
            arrays[f"{name}.bias.{i}"] = bias.astype(np.float32)
    OUT.mkdir(exist_ok=True)
    np.savez_compressed(OUT / "heads.npz", **arrays)
    labels = {
        "model": "multilingual-e5-small with sales-coach heads",
        "version": VERSION,
        "prefix": "query: ",
        "max_tokens": 128,
        "sentiment": SENTIMENTS,
        "objections": KINDS,
        "thresholds": thresholds,
        "next_step_threshold": next_step,
    }
    (OUT / "labels.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(default_cache()), help="where models/setup.py has put the models")
    begun, encode = time.monotonic(), Encoder(parser.parse_args().cache)
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = own()
    held = [row for row in rows if is_test(row)]
    data, test = Set(encode, [row for row in rows if not is_test(row)]), Set(encode, held)
    folds = np.array([fold(row) for row in data.rows])
    extra = other_sentiment()
    others = Set(encode, extra) if extra else None
    print(f"{len(data.rows)} sentences to train on, {len(held)} held out, {len(extra)} of other sets", flush=True)

    tried = {"objections": {}, "sentiment": {}}
    best = choose_objections(data, folds, tried["objections"])
    logits = unseen(VARIANTS[best], data, folds, "objections")
    slopes = [platt(logits[:, k], data.objections[:, k]) for k in range(len(KINDS))]
    slope, shift = map(np.array, zip(*slopes))
    chances = expit(logits * slope + shift)
    thresholds = {kind: threshold(chances[:, k], data.objections[:, k]) for k, kind in enumerate(KINDS)}
    best_sentiment, name, share = choose_sentiment(data, folds, others, tried["sentiment"])
    feelings = unseen(VARIANTS[name], data, folds, "sentiment", others, share)
    warmth = temperature(feelings, data.sentiment)

    everything = np.arange(len(data.rows))
    heads = {
        "objections": fit(VARIANTS[best], data, everything, "objections").rescaled(slope, shift),
        "sentiment": fit(VARIANTS[name], data, everything, "sentiment", others, share).rescaled(warmth, 0.0),
    }
    heads["next_step"], steps = learn_next_step(data, folds, test)
    save(heads, thresholds, steps["threshold"])
    cut = np.array([thresholds[kind] for kind in KINDS])
    measured = {
        "chosen": {"objections": best, "sentiment": best_sentiment},
        "tried": tried,
        "thresholds": thresholds,
        "next_step": steps,
        "training": report.quality(data, chances, softmax(feelings * warmth, axis=1), cut),
        "test": report.quality(test, expit(heads["objections"](test.written)), softmax(heads["sentiment"](test.written), axis=1), cut),
        "test_as_spoken": report.quality(
            test, expit(heads["objections"](test.spoken)), softmax(heads["sentiment"](test.spoken), axis=1), cut
        ),
        "false_alarms": report.false_alarms(encode, heads["objections"], cut),
        "latency_ms": report.latency(encode),
    }
    (OUT / "report.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    report.show(measured)
    print(f"trained in {time.monotonic() - begun:.0f} s; heads are in {OUT}")


if __name__ == "__main__":
    main()
