"""Trains the insights model and writes models/insights/: insights.onnx, tokenizer.json, labels.json.

    make train        about an hour and a quarter on one core, minutes on a GPU; the same data give the same model

Thresholds and calibration come from the development situations. The held-out situations are not looked at: `make eval` does
that.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import calibrate
import export
import pieces
from e5small import Model
from network import Network
from passages import Variety, batch, batches
from runner import MAX_TOKENS, MAX_TOKENS_BEFORE, PREFIX, Reader, Runner
from sentences import DATA, KINDS, ROOT, SENTIMENTS, foreign, own, part, read, shared
from targets import loss, target

OUT = ROOT / "models" / "insights"
VERSION = "2026-11-25"
SEED = 7
LAYERS, EPOCHS = 11, 6
SMALL_EPOCHS, SMALL_RATE = 2, 0.5  # with weights of 4 bits; the rates' share
BATCH = 32
RATE, HEADS_RATE = 1e-4, 5e-4  # peak learning rates of the encoder and of the heads
WARM_UP, DECAY, CLIP = 0.06, 0.01, 1.0
TRAINING_TOKENS, TRAINING_TOKENS_BEFORE = 64, 24
OTHERS_SHARE = 4  # of the other data, each epoch sees one in so many
# At most so many rows of each, and how much one weighs beside an own sentence.
XED = {"en": 3000, "es": 2000, "fr": 2000, "zh": 1200}
VADER, BANKING = 3000, 2500
SENTIMENT_WEIGHT, BANKING_WEIGHT, FOREIGN_WEIGHT = 0.3, 0.5, 0.5


def others():
    """Open data beside the own sentences; none of it where the shared data are missing."""
    rows = []
    for language, most in XED.items():
        polar = language != "en"  # their labels were projected and know no neutral
        found = shared("xed_dialogue_en_es_fr_zh", split="train", lang=language)[:most]
        rows += [dict(text=row["text"], sentiment=row["label"], polar=polar, source="xed", language=language) for row in found]
    found = [row for row in shared("vader_ground_truth_en", split="train") if row["domain"] in ("amazon", "tweets")][:VADER]
    rows += [dict(text=row["text"], sentiment=row["label"], source="vader", language="en") for row in found]
    rows = [dict(row, weight=SENTIMENT_WEIGHT) for row in rows]
    found = shared("banking77_en", split="train")[:BANKING]
    rows += [dict(text=row["text"], objections=[], source="banking77", language="en", weight=BANKING_WEIGHT) for row in found]
    return rows


def parts():
    """Own sentences to learn from and to choose by; each may have been `heard` too."""
    heard = {row["id"]: row["text"] for row in read(DATA / "heard.jsonl")}
    rows = [dict(row, heard=heard.get(row["id"])) for row in own()]
    strangers = [dict(row, weight=FOREIGN_WEIGHT) for row in foreign()]
    chosen = {name: [row for row in rows + strangers if part(row) == name] for name in ("train", "dev")}
    return chosen["train"], chosen["dev"]


class Trainer:
    def __init__(self, reader, device):
        self.reader, self.device = reader, device

    def fit(self, network, rows, more, epochs, share=1.0):
        """Trains the network on all rows and, each epoch, on a part of the others, at a share of the learning rates."""
        torch.manual_seed(SEED)
        variety, draw = Variety(rows, SEED), random.Random(SEED)
        places = list(range(len(rows))), list(range(len(rows), len(rows) + len(more)))
        rows = rows + more
        targets = [target(row) for row in rows]
        if not network.settled:
            self.settle(network, rows[: len(places[0])], targets, draw)
        optimizer = torch.optim.AdamW(groups(network), fused=True)
        rates = [share * group["lr"] for group in optimizer.param_groups]
        begun, step, steps = time.monotonic(), 0, None
        for epoch in range(epochs):
            chosen = places[0] + draw.sample(places[1], len(places[1]) // OTHERS_SHARE)
            passages = [self.reader(*variety.of(rows[place])) for place in chosen]
            order = batches(passages, BATCH, draw)
            steps = steps or len(order) * epochs
            network.train()
            for some in order:
                warm, left = min(1.0, (step + 1) / (WARM_UP * steps)), max(0.0, 1 - step / steps)
                for group, rate in zip(optimizer.param_groups, rates):
                    group["lr"] = rate * warm * left
                at = [chosen[place] for place in some]
                cost = self.cost(network, [passages[place] for place in some], rows, targets, at)
                optimizer.zero_grad()
                cost.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
                optimizer.step()
                step += 1
                if step % 100 == 0:
                    spent = time.monotonic() - begun
                    print(f"\r  epoch {epoch + 1} of {epochs}, {step} of {steps} steps, {spent:.0f} s, "
                          f"{spent / step * (steps - step):.0f} s to go  ", end="", flush=True)
        print()

    def cost(self, network, passages, rows, targets, at):
        answers = torch.from_numpy(np.stack([targets[place][0] for place in at])).to(self.device)
        asked = torch.from_numpy(np.stack([targets[place][1] for place in at])).to(self.device)
        weights = torch.tensor([rows[place].get("weight", 1.0) for place in at], device=self.device)
        with torch.autocast(self.device, torch.bfloat16):
            logits = network(batch(passages).to(self.device))
        return loss(logits, answers, asked, weights)

    def settle(self, network, rows, targets, draw):
        some = [self.reader(row["text"], row.get("before")) for row in draw.sample(rows, 16 * BATCH)]
        share = torch.from_numpy(np.mean([answers for answers, _ in targets[: len(rows)]], axis=0)).to(self.device)
        network.settle([batch(some[i : i + BATCH]).to(self.device) for i in range(0, len(some), BATCH)], share)

    @torch.no_grad()
    def logits(self, network, rows):
        """f32[rows, 14], each row as written."""
        network.eval()
        passages = [self.reader(row["text"], row.get("before")) for row in rows]
        order = sorted(range(len(rows)), key=lambda place: len(passages[place][0]))
        found = None
        for start in range(0, len(order), 2 * BATCH):
            some = order[start : start + 2 * BATCH]
            with torch.autocast(self.device, torch.bfloat16):
                answers = network(batch([passages[place] for place in some]).to(self.device)).cpu().numpy()
            found = np.zeros((len(rows), answers.shape[1]), np.float32) if found is None else found
            found[some] = answers
        return found


def groups(network):
    """Parameters with their learning rates; biases, norms and places do not decay."""
    named = list(network.named_parameters())
    heads = [value for name, value in named if name.startswith(("dense.", "heads."))]
    body = [(name, value) for name, value in named if not name.startswith(("dense.", "heads."))]
    bare = [value for name, value in body if value.ndim < 2 or name == "places"]
    matrices = [value for name, value in body if value.ndim >= 2 and name != "places"]
    return [
        {"params": matrices, "lr": RATE, "weight_decay": DECAY},
        {"params": bare, "lr": RATE, "weight_decay": 0.0},
        {"params": heads, "lr": HEADS_RATE, "weight_decay": DECAY},
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to (default: %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Model(export.encoder_path())
    vocabulary = pieces.tokenizer(model.tokens, pieces.kept_pieces(model.tokens))
    tokenizer = Tokenizer.from_str(vocabulary)
    rows, dev = parts()
    more = others()
    print(f"{len(rows)} own sentences to learn from, {len(dev)} to choose by, {len(more)} others, on {device}", flush=True)
    trainer = Trainer(Reader(tokenizer, TRAINING_TOKENS, TRAINING_TOKENS_BEFORE), device)
    network = Network(model, LAYERS).to(device)
    trainer.fit(network, rows, more, EPOCHS)
    print("once more, with weights of 4 bits", flush=True)
    network.shrink()
    trainer.fit(network, rows, more, SMALL_EPOCHS, SMALL_RATE)
    write(network.cpu().eval(), model, vocabulary, dev, options.out)


def write(network, model, vocabulary, dev, out):
    """The graph with its calibration, which is chosen by what the quantised graph itself says."""
    (out / "tokenizer.json").write_text(vocabulary, encoding="utf-8")
    export.save(network, model, calibrate.NOTHING, out / "insights.onnx")
    runner = Runner(out)
    logits = runner.logits(dev)
    calibration, thresholds = calibrate.choose(dev, logits)
    export.save(network, model, calibration, out / "insights.onnx")
    labels = {
        "model": "sales-coach insights, eleven layers of multilingual-e5-small",
        "version": VERSION,
        "prefix": PREFIX,
        "max_tokens": MAX_TOKENS,
        "max_tokens_before": MAX_TOKENS_BEFORE,
        "sentiment": SENTIMENTS,
        "objections": KINDS,
        **thresholds,
    }
    (out / "labels.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
    calibrate.show("on dev", dev, logits)


if __name__ == "__main__":
    main()
