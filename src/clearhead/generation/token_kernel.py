"""The arithmetic of one new token of one text, compiled by numba: a few loops over a model's weights.

Every function fills its last argument. What a `Stack` holds is made by `compiled`, the only module to load this one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

PLAIN, CENTERED, BY_SIZE = 0, 1, 2
"""Kinds of norms: none, LayerNorm, RMSNorm."""

RELU, SQUARED_RELU, GELU_TANH, GELU_EXACT, SWIGLU = range(5)

# Sums may be taken in any order, but nothing is assumed to be finite: a broken model has to show.
compiled = njit(fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")


class Norm(NamedTuple):
    """The norms of one place in all layers: gain and shift are (L, C)."""

    kind: int
    epsilon: Any
    gain: Any
    shift: Any


class Linear(NamedTuple):
    """The matrices of one place in all layers, (L, R, C), what their rows are multiplied by, and biases, (L, R)."""

    weight: Any
    scale: Any
    bias: Any


class Stack(NamedTuple):
    """A model's weights, those of all layers together.

    Args:
        tokens, places: what each token and each position begin with, (V, C) and (S, C).
        project: to queries, keys and values, joined; widen: to a feed-forward layer's hidden states, or to its gate and
            these.
        taps: (L, N, C), the convolution's, that of the newest position first.
        cap: of the logits; 0 is none.
    """

    tokens: Any
    places: Any
    embedding_norm: Norm
    attention_norm: Norm
    project: Linear
    normalizes_heads: bool
    head_epsilon: Any
    close: Linear
    feed_forward_norm: Norm
    taps: Any
    activation: int
    widen: Linear
    narrow: Linear
    final_norm: Norm
    head: Linear
    cap: Any


@compiled
def multiply(linear, layer, x, y):  # type: ignore[no-untyped-def]
    weight, scale, bias = linear.weight[layer], linear.scale[layer], linear.bias[layer]
    for row in range(weight.shape[0]):
        total = np.float32(0.0)
        for column in range(weight.shape[1]):
            total += np.float32(weight[row, column]) * x[column]
        y[row] = total * scale[row] + bias[row]


@compiled
def normalize(norm, layer, x, y):  # type: ignore[no-untyped-def]
    if norm.kind == PLAIN:
        y[:] = x
        return
    mean, squares, size = np.float32(0.0), np.float32(0.0), np.float32(x.size)
    if norm.kind == CENTERED:
        for each in x:
            mean += each
        mean /= size
    for each in x:
        squares += (each - mean) * (each - mean)
    scale = np.float32(1.0) / np.float32(math.sqrt(squares / size + norm.epsilon))
    gain, shift = norm.gain[layer], norm.shift[layer]
    for place in range(x.size):
        y[place] = (x[place] - mean) * scale * gain[place] + shift[place]


@compiled
def place_heads(heads, normalizes, epsilon, turn, turned):  # type: ignore[no-untyped-def]
    """Give queries and keys, one a row, their length and their position, in place."""
    for head in range(heads.shape[0]):
        x = heads[head]
        if normalizes:
            squares = np.float32(0.0)
            for each in x:
                squares += each * each
            x *= np.float32(1.0) / np.float32(math.sqrt(squares / np.float32(x.size) + epsilon))
        if turn.size:
            turned[:] = np.float32(0.0)
            for channel in range(x.size):
                for to in range(x.size):
                    turned[to] += x[channel] * turn[channel, to]
            x[:] = turned


@compiled
def average(query, keys, values, count, scores, gathered):  # type: ignore[no-untyped-def]
    """Average `count` values, weighted by how well their keys answer one query."""
    largest, total = np.float32(-np.inf), np.float32(0.0)
    scale = np.float32(1.0) / np.float32(math.sqrt(query.size))
    for place in range(count):
        score = np.float32(0.0)
        for channel in range(query.size):
            score += keys[place, channel] * query[channel]
        scores[place] = score * scale
        largest = max(largest, scores[place])
    gathered[:] = np.float32(0.0)
    for place in range(count):
        weight = np.float32(math.exp(scores[place] - largest))
        total += weight
        for channel in range(query.size):
            gathered[channel] += weight * values[place, channel]
    gathered /= total


@compiled
def mix(taps, recent, x):  # type: ignore[no-untyped-def]
    """Add to a state what the convolution keeps of those before it, in place, and remember the state as it came."""
    before = recent.shape[0]
    for channel in range(x.size):
        newest = x[channel]
        total = newest * taps[0, channel]
        for delay in range(1, before + 1):
            total += recent[before - delay, channel] * taps[delay, channel]
        for place in range(before - 1):
            recent[place, channel] = recent[place + 1, channel]
        if before:
            recent[before - 1, channel] = newest
        x[channel] = total


@compiled
def activate(kind, widened, hidden):  # type: ignore[no-untyped-def]
    half, one = np.float32(0.5), np.float32(1.0)
    for place in range(hidden.size):
        z = widened[place]
        if kind == RELU:
            hidden[place] = max(z, np.float32(0.0))
        elif kind == SQUARED_RELU:
            hidden[place] = max(z, np.float32(0.0)) ** 2
        elif kind == GELU_TANH:
            inner = np.float32(math.sqrt(2.0 / math.pi)) * (z + np.float32(0.044715) * z * z * z)
            hidden[place] = half * z * (one + np.float32(math.tanh(inner)))
        elif kind == GELU_EXACT:
            hidden[place] = half * z * (one + np.float32(math.erf(z * np.float32(math.sqrt(0.5)))))
        else:
            hidden[place] = z / (one + np.float32(math.exp(-z))) * widened[hidden.size + place]


@compiled
def read_token(stack, token, start, turn, keys, values, recent, logits):  # type: ignore[no-untyped-def]
    """Read one token, and append what it leaves behind to `keys`, `values` and `recent`, one a layer."""
    num_kv_heads, capacity, head_width = keys[0].shape
    num_heads = stack.close.weight.shape[2] // head_width
    x = stack.tokens[token] + stack.places[start]
    normalize(stack.embedding_norm, 0, x, x)
    heard, branch = np.empty_like(x), np.empty_like(x)
    projected = np.empty(stack.project.weight.shape[1], np.float32)
    gathered = np.empty(num_heads * head_width, np.float32)
    widened = np.empty(stack.widen.weight.shape[1], np.float32)
    hidden = np.empty(stack.narrow.weight.shape[2], np.float32)
    turned, scores = np.empty(head_width, np.float32), np.empty(capacity, np.float32)
    heads = projected.reshape(-1, head_width)
    for layer in range(len(keys)):
        normalize(stack.attention_norm, layer, x, heard)
        multiply(stack.project, layer, heard, projected)
        placed = heads[: num_heads + num_kv_heads]
        place_heads(placed, stack.normalizes_heads, stack.head_epsilon, turn, turned)
        keys[layer][:, start] = placed[num_heads:]
        values[layer][:, start] = heads[num_heads + num_kv_heads :]
        for head in range(num_heads):
            kv = head * num_kv_heads // num_heads
            of_head = gathered[head * head_width : (head + 1) * head_width]
            average(heads[head], keys[layer][kv], values[layer][kv], start + 1, scores, of_head)
        multiply(stack.close, layer, gathered, branch)
        x += branch
        if hidden.size:
            normalize(stack.feed_forward_norm, layer, x, heard)
            mix(stack.taps[layer], recent[layer], heard)
            multiply(stack.widen, layer, heard, widened)
            activate(stack.activation, widened, hidden)
            multiply(stack.narrow, layer, hidden, branch)
            x += branch
    normalize(stack.final_norm, 0, x, heard)
    multiply(stack.head, 0, heard, logits)
    if stack.cap > 0:
        for place in range(logits.size):
            logits[place] = stack.cap * np.float32(math.tanh(logits[place] / stack.cap))
