"""What the model answers, in the order of its heads: logits of the kinds, of the sentiments, and of three yes-or-no questions."""

from sentences import KINDS, SENTIMENTS

OBJECTIONS = slice(0, len(KINDS))
SENTIMENT = slice(OBJECTIONS.stop, OBJECTIONS.stop + len(SENTIMENTS))
NEXT_STEP, INTEREST, FOREIGN = range(SENTIMENT.stop, SENTIMENT.stop + 3)
OUTPUTS = FOREIGN + 1
# The graph's outputs: which logits, and what makes probabilities of them.
GRAPH = {
    "sentiment": (SENTIMENT, "Softmax"),
    "objections": (OBJECTIONS, "Sigmoid"),
    "next_step": (slice(NEXT_STEP, NEXT_STEP + 1), "Sigmoid"),
    "interest": (slice(INTEREST, INTEREST + 1), "Sigmoid"),
    "foreign": (slice(FOREIGN, FOREIGN + 1), "Sigmoid"),
}
