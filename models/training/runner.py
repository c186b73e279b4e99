"""The model as the insights stage runs it: texts to token ids, and one passage a run of the graph on one thread."""

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from outputs import GRAPH, OUTPUTS, SENTIMENT

PREFIX, END = "query: ", "</s>"
MAX_TOKENS, MAX_TOKENS_BEFORE = 96, 32  # of an utterance, and of the end of the turn before
STEP = 8  # every passage is padded to a multiple of so many tokens


class Reader:
    """Turns texts into (ids, how many of them are the utterance's)."""

    def __init__(self, tokenizer, most=MAX_TOKENS, most_before=MAX_TOKENS_BEFORE):
        self.tokenizer, self.end = tokenizer, tokenizer.token_to_id(END)
        self.most, self.most_before = most, most_before

    def __call__(self, text, before=None):
        ids = self.tokenizer.encode(PREFIX + text.strip()).ids
        if len(ids) > self.most:
            ids = [*ids[: self.most - 1], self.end]
        own = len(ids)
        if before:
            turn = f"{before['speaker']}: {before['text'].strip()}"
            ids = [*ids, *self.tokenizer.encode(turn, add_special_tokens=False).ids[-self.most_before :], self.end]
        return ids, own


class Runner:
    """insights.onnx and its tokenizer in a folder."""

    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(folder / "insights.onnx"), options)
        self.read = Reader(Tokenizer.from_file(str(folder / "tokenizer.json")))

    def probabilities(self, rows):
        """f32[rows, 14]."""
        found = np.zeros((len(rows), OUTPUTS), np.float32)
        for number, row in enumerate(rows):
            ids, own = self.read(row["text"], row.get("before"))
            places = np.arange(-(-len(ids) // STEP) * STEP)[None]
            mask, mine = (places < len(ids)).astype(np.int64), (places < own).astype(np.int64)
            padded = np.array([ids + [0] * (places.size - len(ids))])
            fed = {"input_ids": padded, "attention_mask": mask, "utterance_mask": mine}
            for (places, _), values in zip(GRAPH.values(), self.session.run(list(GRAPH), fed)):
                found[number, places] = values[0]
        return found

    def logits(self, rows):
        """f32[rows, 14]: what the probabilities were made from."""
        chances = np.clip(self.probabilities(rows), 1e-7, 1 - 1e-7)
        logits = np.log(chances / (1 - chances))
        logits[:, SENTIMENT] = np.log(chances[:, SENTIMENT])
        return logits
