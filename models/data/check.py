#!/usr/bin/env python3
"""Checks the project's own labelled sentences (see GUIDE.md) and prints what there is.

Usage: check.py [--partial] [FILE.jsonl ...]     default: the four languages and next_step.jsonl beside this script

Refuses: a line that is not the agreed object, unknown labels, ids or situations of another
language, an id twice, a sentence twice, near-duplicates (Jaccard of word sets or of character
trigrams >= 0.8 within a language), sentences filled into one mould (see MOULD), and, unless
--partial, too few of a kind. Exit code 0 when all is well, 1 otherwise. Standard library only.
"""

import json
import math
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

LANGUAGES = ("en", "es", "fr", "zh")
KINDS = ("price", "timing", "authority", "need", "competitor", "trust", "fit", "stall")
SENTIMENTS = ("negative", "neutral", "positive")
SPEAKERS = ("customer", "rep")
FIELDS = {"id", "text", "language", "speaker", "objections", "sentiment", "hard", "situation"}
OPTIONAL = {"next_step", "interest", "before"}  # two facts that hold, and the turn before

NEAR = 0.8
LEAST = {"kind": 150, "none": 600, "hard": 200, "sentiment": 280, "situations": 180}
LEAST_NEXT_STEP = 60  # of each answer in each language of next_step.jsonl
LEAST_TWO_KINDS = 0.12  # of the sentences that carry an objection
MOULD, MOULD_SHARE = 16, 0.008  # most sentences of a language that may open with the same three words (four signs in zh)


def normalise(text):
    """Lower case, no accents, no punctuation: what two spellings of one sentence share."""
    decomposed = unicodedata.normalize("NFKD", text.lower())
    kept = (c if c.isalnum() else " " for c in decomposed if not unicodedata.combining(c))
    return " ".join("".join(kept).split())


def words(text, language):
    return text.replace(" ", "") if language == "zh" else text.split()


def trigrams(text):
    padded = f"  {text}  "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def jaccard(a, b):
    return len(a & b) / len(a | b) if a or b else 0.0


def wrong_with(row, language):
    """Why `row` is not the agreed object, or None."""
    if not isinstance(row, dict) or set(row) - OPTIONAL != FIELDS:
        return f"the fields must be exactly {sorted(FIELDS)}, and {sorted(OPTIONAL)} where they apply"
    text, kinds = row["text"], row["objections"]
    if not isinstance(text, str) or text != text.strip() or not normalise(text):
        return "text must be words without space around them"
    if row["language"] != language:
        return f"language is {row['language']!r} in the file of {language!r}"
    if not re.fullmatch(rf"{language}-(\d{{4,5}}|n\d{{3}})", str(row["id"])):
        return f"id {row['id']!r} is not like {language}-0001 or {language}-n001"
    if not re.fullmatch(rf"{language}-s\d{{3,4}}", str(row["situation"])):
        return f"situation {row['situation']!r} is not like {language}-s001"
    if row["speaker"] not in SPEAKERS:
        return f"unknown speaker {row['speaker']!r}"
    if row["sentiment"] not in SENTIMENTS:
        return f"unknown sentiment {row['sentiment']!r}"
    if not all(isinstance(row.get(name, False), bool) for name in ("hard", "next_step", "interest")):
        return "hard, next_step and interest must be true or false"
    if "before" in row and not sound_turn(row["before"]):
        return f"before must be {{speaker, text}}, not {row['before']!r}"
    if not isinstance(kinds, list) or any(k not in KINDS for k in kinds):
        return f"unknown objection kind in {kinds!r}"
    if kinds != [k for k in KINDS if k in kinds]:
        return f"objections {kinds!r} must be distinct and in the fixed order"
    if kinds and row["hard"]:
        return "a hard negative carries no objection"
    if kinds and row["speaker"] == "rep":
        return "the rep's sentences carry no objection"
    return None


def sound_turn(turn):
    return (
        isinstance(turn, dict)
        and set(turn) == {"speaker", "text"}
        and turn["speaker"] in SPEAKERS
        and isinstance(turn["text"], str)
        and bool(normalise(turn["text"]))
    )


def read(path, language=None):
    """The sound rows of one file, and what is wrong with the others; without a language, rows name their own."""
    rows, wrong = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            wrong.append(f"{path.name}:{number}: not JSON: {error}")
            continue
        fault = wrong_with(row, language or isinstance(row, dict) and row.get("language") or "en")
        if fault:
            wrong.append(f"{path.name}:{number}: {fault}")
        else:
            rows.append(row)
    for name, times in Counter(row["id"] for row in rows).items():
        if times > 1:
            wrong.append(f"{path.name}: id {name} is used {times} times")
    return rows, wrong


def told_apart(one, other):
    """Whether the same words may stand twice: in one situation, after different turns, with different labels."""
    return (
        one["situation"] == other["situation"]
        and one.get("before") != other.get("before")
        and (one["objections"], one.get("interest")) != (other["objections"], other.get("interest"))
    )


def compared(row, language):
    """What must not be said twice: the sentence, and for a short answer the turn before as well, which gives it its meaning."""
    plain = normalise(row["text"])
    short = len(plain) <= 12 if language == "zh" else len(plain.split()) <= 6
    if short and "before" in row:
        return f"{normalise(row['before']['text'])} / {plain}"
    return plain


def alike(sets):
    """Pairs of places whose sets have a Jaccard similarity of NEAR or more.

    Two such sets share one of their rarest elements, so only sets that do are compared.
    """
    common = Counter(element for one in sets for element in one)
    seen = defaultdict(list)
    for place, one in enumerate(sets):
        rarest = sorted(one, key=lambda element: (common[element], element))[: len(one) - math.ceil(NEAR * len(one)) + 1]
        for other in sorted({other for element in rarest for other in seen[element]}):
            if jaccard(one, sets[other]) >= NEAR:
                yield place, other
        for element in rarest:
            seen[element].append(place)


def repeated(rows, language):
    """Exact and near duplicates, and openings used too often."""
    wrong, plain, openings = [], [compared(row, language) for row in rows], defaultdict(list)
    for row in rows:
        parts = words(normalise(row["text"]), language)
        head = parts[: 4 if language == "zh" else 3]
        openings["".join(head) if language == "zh" else " ".join(head)].append(row["id"])
    found = {}
    for place, other in alike([trigrams(text) for text in plain]):
        found[place, other] = "character trigrams"
    if language != "zh":  # there the tokens are single signs: sets of signs alone would call order nothing
        for place, other in alike([set(text.split()) for text in plain]):
            found[place, other] = "words"
    for (place, other), how in sorted(found.items()):
        one, two = rows[place], rows[other]
        if not told_apart(one, two):
            same = plain[place] == plain[other]
            wrong.append(f"{one['id']} says the same as {two['id']}" if same else f"{one['id']} is nearly {two['id']} ({how})")
    most = max(MOULD, round(MOULD_SHARE * len(rows)))
    for head, ids in openings.items():
        if len(ids) > most:
            wrong.append(f"{len(ids)} sentences open with {head!r}: {', '.join(ids[:4])} ...")
    return wrong


def count(rows):
    found = Counter(kind for row in rows for kind in row["objections"])
    found.update(row["sentiment"] for row in rows)
    found["all"] = len(rows)
    found["none"] = sum(not row["objections"] for row in rows)
    found["hard"] = sum(row["hard"] for row in rows)
    found["two kinds"] = sum(len(row["objections"]) > 1 for row in rows)
    found["situations"] = len({row["situation"] for row in rows})
    found["interest"] = sum(row.get("interest", False) for row in rows)
    found["before"] = sum("before" in row for row in rows)
    found["rep"] = sum(row["speaker"] == "rep" for row in rows)
    return found


def too_few(found, language):
    least = {kind: LEAST["kind"] for kind in KINDS}
    least |= {sentiment: LEAST["sentiment"] for sentiment in SENTIMENTS}
    least |= {name: LEAST[name] for name in ("none", "hard", "situations")}
    wrong = [
        f"{language}: {found[name]} of {name}, at least {number} are needed"
        for name, number in least.items()
        if found[name] < number
    ]
    objecting = found["all"] - found["none"]
    if found["two kinds"] < LEAST_TWO_KINDS * objecting:
        wrong.append(f"{language}: only {found['two kinds']} of {objecting} objections carry two kinds")
    return wrong


def next_steps(path):
    """What is wrong with the sentences on next steps."""
    rows, wrong = read(path)
    for language in LANGUAGES:
        here = [row for row in rows if row["language"] == language]
        wrong += repeated(here, language)
        answers = Counter(row.get("next_step") for row in here)
        print(f"{path.name} {language}: {answers[True]} with a next step, {answers[False]} without")
        if min(answers[True], answers[False]) < LEAST_NEXT_STEP or answers[None]:
            wrong.append(f"{path.name}: at least {LEAST_NEXT_STEP} of both are needed in {language}, and nothing else")
    return wrong


def table(counts):
    names = ("all", *KINDS, "two kinds", "none", "hard", "interest", "before", "rep", *SENTIMENTS, "situations")
    lines = [" ".join([f"{'':<12}", *(f"{language:>6}" for language in counts)])]
    for name in names:
        lines.append(" ".join([f"{name:<12}", *(f"{found[name]:>6}" for found in counts.values())]))
    return "\n".join(lines)


def main(arguments):
    partial = "--partial" in arguments
    named = [Path(a) for a in arguments if a != "--partial"]
    paths = named or [Path(__file__).parent / f"{name}.jsonl" for name in (*LANGUAGES, "next_step")]
    wrong, counts = [], {}
    for path in paths:
        language = path.stem
        if language == "next_step" and path.is_file():
            wrong += next_steps(path)
            continue
        if language not in LANGUAGES:
            wrong.append(f"{path}: the file must be named after one of {', '.join(LANGUAGES)}")
            continue
        if not path.is_file():
            wrong.append(f"{path}: there is no such file")
            continue
        rows, faults = read(path, language)
        counts[language] = count(rows)
        wrong += faults + repeated(rows, language)
        if not partial:
            wrong += too_few(counts[language], language)
    print(table(counts))
    if wrong:
        print("\n".join(["", f"{len(wrong)} wrong:", *wrong]), file=sys.stderr)
        return 1
    print("\nall is well")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
