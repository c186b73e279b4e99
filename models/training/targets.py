"""What each row teaches the heads, and the loss that compares their answers with it."""

import numpy as np
import torch
import torch.nn.functional as F

from outputs import FOREIGN, INTEREST, NEXT_STEP, OBJECTIONS, OUTPUTS, SENTIMENT
from sentences import KINDS, LANGUAGES, SENTIMENTS

# Of the answers that a row has: kinds, sentiment of three, sentiment of two (negative or positive), next step, interest, language.
QUESTIONS = 6
WEIGHTS = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5, 0.5])
POLAR = [SENTIMENT.start, SENTIMENT.stop - 1]


def target(row):
    """f32[14] answers, and f32[6] 1 for each question that the row answers."""
    answers, asked = np.zeros(OUTPUTS, np.float32), np.zeros(QUESTIONS, np.float32)
    source = row["source"]
    if source in (*LANGUAGES, "next_step", "banking77"):
        answers[[KINDS.index(kind) for kind in row["objections"]]] = 1
        asked[0] = 1
    if "sentiment" in row:
        answers[SENTIMENT.start + SENTIMENTS.index(row["sentiment"])] = 1
        asked[2 if row.get("polar") else 1] = 1
    if source in (*LANGUAGES, "next_step"):
        answers[NEXT_STEP] = row.get("next_step", False)
        asked[3] = 1
    if source in LANGUAGES:
        answers[INTEREST] = row.get("interest", False)
        asked[4] = 1
    answers[FOREIGN] = source == "foreign"
    asked[5] = 1
    return answers, asked


def loss(logits, answers, asked, weights):
    """The mean over the rows of what each question costs."""
    yes_no = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    three = -(answers[:, SENTIMENT] * F.log_softmax(logits[:, SENTIMENT], 1)).sum(1)
    two = -(answers[:, POLAR] * F.log_softmax(logits[:, POLAR], 1)).sum(1)
    kinds = yes_no[:, OBJECTIONS].sum(1)
    costs = torch.stack([kinds, three, two, yes_no[:, NEXT_STEP], yes_no[:, INTEREST], yes_no[:, FOREIGN]], 1)
    return ((costs * asked * WEIGHTS.to(costs.device)).sum(1) * weights).mean()
