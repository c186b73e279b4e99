"""What the heads are worth, per language, as numbers and as the tables of the model card."""

import time

import numpy as np
from scipy.special import expit

from sentences import KINDS, LANGUAGES, shared


def f1(right, found, there):
    return 2 * right / (found + there) if found + there else 0.0


def objection_scores(truth, flagged):
    right, found, there = (truth & flagged).sum(axis=0), flagged.sum(axis=0), truth.sum(axis=0)
    kinds = [f1(*counts) for counts in zip(right, found, there)]
    return {
        "micro_f1": f1(right.sum(), found.sum(), there.sum()),
        "macro_f1": float(np.mean(kinds)),
        "precision": float(right.sum() / max(1, found.sum())),
        "recall": float(right.sum() / max(1, there.sum())),
        "kinds": {kind: {"f1": score, "precision": float(r / max(1, f)), "recall": float(r / max(1, t)), "sentences": int(t)}
                  for kind, score, r, f, t in zip(KINDS, kinds, right, found, there)},
    }


def calibration_error(confidence, right, bins=10):
    """The mean distance between what is claimed and what holds, over tenths of confidence."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [(places == i) for i in range(bins)]
    return float(sum(part.mean() * abs(confidence[part].mean() - right[part].mean()) for part in parts if part.any()))


def quality(data, objections, sentiment, cut):
    """Scores of probabilities per language and in all."""
    languages = np.array([row["language"] for row in data.rows])
    hard = np.array([row["hard"] for row in data.rows])
    truth, flagged = data.objections.astype(bool), objections >= cut
    found = {}
    for language in (*LANGUAGES, "all"):
        here = languages == language if language != "all" else np.ones(len(languages), bool)
        none = here & ~truth.any(axis=1)
        picks = sentiment[here].argmax(axis=1)
        scores = objection_scores(truth[here], flagged[here])
        if language != "all":
            del scores["kinds"]
        per_class = [f1(((picks == c) & (data.sentiment[here] == c)).sum(), (picks == c).sum(), (data.sentiment[here] == c).sum()) for c in range(3)]
        found[language] = {
            "sentences": int(here.sum()),
            **scores,
            "hard_negatives_flagged": float(flagged[here & hard].any(axis=1).mean()),
            "no_objection_flagged": float(flagged[none].any(axis=1).mean()),
            "sentiment_accuracy": float((picks == data.sentiment[here]).mean()),
            "sentiment_macro_f1": float(np.mean(per_class)),
            "objection_ece": calibration_error(objections[here].ravel(), truth[here].ravel()),
            "sentiment_ece": calibration_error(sentiment[here].max(axis=1), picks == data.sentiment[here]),
        }
    return found


def next_step(data, chances, cut):
    """Scores of the sentences written on next steps, per language and in all, and the share of the others flagged."""
    there, flagged = data.next_step[:, 0].astype(bool), chances[:, 0] >= cut
    about = np.array(["-n" in row["id"] for row in data.rows])
    languages = np.array([row["language"] for row in data.rows])
    found = {}
    for language in (*LANGUAGES, "all"):
        here = languages == language if language != "all" else np.ones(len(languages), bool)
        right, picked, true = ((here & about & part).sum() for part in (there & flagged, flagged, there))
        found[language] = {
            "sentences": int((here & about).sum()),
            "precision": float(right / max(1, picked)),
            "recall": float(right / max(1, true)),
            "f1": f1(right, picked, true),
            "others_flagged": float(flagged[here & ~about & ~there].mean()),
        }
    return found


def false_alarms(encode, head, cut):
    """The share of questions to a bank, none an objection, that are flagged; None without them."""
    rows = shared("banking77_en", 1000, split="test")
    if rows is None:
        return None
    chances = expit(head(encode([row["text"] for row in rows])))
    return {"sentences": len(rows), "flagged": float((chances >= cut).any(axis=1).mean())}


def latency(encode):
    """Milliseconds of processor time, whatever else runs, of the encoder: 20 tokens (p50), and 16 such sentences in one
    run (p50)."""
    found = {}
    for name, batch, runs in (("one", 1, 200), ("sixteen", 16, 30)):
        ids = np.tile(np.arange(100, 120), (batch, 1))
        fed, times = {"input_ids": ids, "attention_mask": np.ones_like(ids)}, []
        for _ in range(runs):
            begun = time.process_time()
            encode.session.run(None, fed)
            times.append((time.process_time() - begun) * 1000)
        found[name] = float(np.median(times))
    return found


COLUMNS = {
    "sentences": "sentences", "micro_f1": "micro F1", "macro_f1": "macro F1", "precision": "precision", "recall": "recall",
    "hard_negatives_flagged": "hard negatives flagged", "sentiment_accuracy": "sentiment accuracy",
    "sentiment_macro_f1": "sentiment macro F1", "objection_ece": "ECE objections", "sentiment_ece": "ECE sentiment",
}


def show(measured):
    for part in ("training", "test", "test_as_spoken"):
        print(f"\n{part}\n| language | " + " | ".join(COLUMNS.values()) + " |\n|" + "---|" * (len(COLUMNS) + 1))
        for language, scores in measured[part].items():
            cells = (f"{scores[key]:.3f}" if isinstance(scores[key], float) else str(scores[key]) for key in COLUMNS)
            print(f"| {language} | " + " | ".join(cells) + " |")
    print(f"\n| next step, from {measured['next_step']['threshold']:.3f} | sentences | precision | recall | F1 | others flagged |\n|---|---|---|---|---|---|")
    for part in ("training", "test", "test_as_spoken"):
        for language, scores in measured["next_step"][part].items():
            print(f"| {part}, {language} | {scores['sentences']} | {scores['precision']:.3f} | {scores['recall']:.3f} | {scores['f1']:.3f} "
                  f"| {scores['others_flagged']:.3f} |")
    print("\n| kind | threshold | precision | recall | F1 | sentences |\n|---|---|---|---|---|---|")
    for kind, scores in measured["test"]["all"]["kinds"].items():
        print(f"| {kind} | {measured['thresholds'][kind]:.3f} | {scores['precision']:.3f} | {scores['recall']:.3f} "
              f"| {scores['f1']:.3f} | {scores['sentences']} |")
    print(f"\nfalse alarms on banking77: {measured['false_alarms']}\nprocessor time, ms: {measured['latency_ms']}")
