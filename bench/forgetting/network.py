"""A 64-100-100-10 ReLU network in plain numpy: logits of one task's two classes, batch and per-example gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIZES = ((64, 100), (100, 100), (100, 10))
WIDTH = sum(rows * columns + columns for rows, columns in SIZES)


@dataclass(frozen=True, slots=True)
class Layers:
    """Views of one flat parameter vector."""

    weights: list[np.ndarray]
    biases: list[np.ndarray]


def views(flat: np.ndarray) -> Layers:
    weights, biases, at = [], [], 0
    for rows, columns in SIZES:
        weights.append(flat[..., at : at + rows * columns].reshape(*flat.shape[:-1], rows, columns))
        at += rows * columns
        biases.append(flat[..., at : at + columns])
        at += columns
    return Layers(weights, biases)


def fresh(rng: np.random.Generator) -> np.ndarray:
    """Return new parameters, uniform in +-1 / sqrt(inputs) as PyTorch's linear layers begin."""
    flat = np.zeros(WIDTH, np.float32)
    layers = views(flat)
    for weight, bias in zip(layers.weights, layers.biases, strict=True):
        reach = 1.0 / np.sqrt(weight.shape[0])
        weight[...] = rng.uniform(-reach, reach, weight.shape)
        bias[...] = rng.uniform(-reach, reach, bias.shape)
    return flat


def activations(flat: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """Return the input of every layer and the logits of all ten classes."""
    layers, outputs = views(flat), [x]
    for k in range(3):
        outputs.append(outputs[-1] @ layers.weights[k] + layers.biases[k])
        if k < 2:
            np.maximum(outputs[-1], 0.0, out=outputs[-1])
    return outputs


def pair_probabilities(logits: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes `first` and `first + 1`, shape (n, 2)."""
    rows = np.arange(len(first))
    pair = np.stack([logits[rows, first], logits[rows, first + 1]], axis=1)
    pair = np.exp(pair - pair.max(axis=1, keepdims=True))
    return pair / pair.sum(axis=1, keepdims=True)


def backward(flat: np.ndarray, outputs: list[np.ndarray], first: np.ndarray, pair: np.ndarray) -> list[np.ndarray]:
    """Return the loss gradient at each layer's output, per example, from the one at the two logits, (n, 2)."""
    layers, rows = views(flat), np.arange(len(first))
    delta = np.zeros_like(outputs[3])
    delta[rows, first], delta[rows, first + 1] = pair[:, 0], pair[:, 1]
    found = [delta]
    for k in (2, 1):
        found.insert(0, (found[0] @ layers.weights[k].T) * (outputs[k] > 0.0))
    return found


def loss_slopes(probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cross-entropy's gradient at the two logits, shape (n, 2)."""
    slopes = probabilities.copy()
    slopes[np.arange(len(y)), y % 2] -= 1.0
    return slopes


def gradient(flat: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the gradient of the mean cross-entropy, shape (p,)."""
    outputs, first = activations(flat, x), (y // 2) * 2
    slopes = loss_slopes(pair_probabilities(outputs[3], first), y)
    result = np.empty(WIDTH, np.float32)
    parts = views(result)
    for k, delta in enumerate(backward(flat, outputs, first, slopes)):
        parts.weights[k][...] = outputs[k].T @ delta / len(y)
        parts.biases[k][...] = delta.mean(axis=0)
    return result


def example_gradients(flat: np.ndarray, x: np.ndarray, y: np.ndarray, *, expected: bool) -> np.ndarray:
    """Return per-example gradients, shape (n, p), whose mean square is the diagonal Fisher.

    Args:
        flat: Parameters, shape (p,).
        x: Pixels, shape (n, 64).
        y: Classes, shape (n,).
        expected: False: gradients at the true labels (the empirical Fisher). True: the square is the expectation over
            labels drawn from the model, p0 g0^2 + p1 g1^2 = p0 p1 J^2 with J the slope of the logits' difference.
    """
    outputs, first = activations(flat, x), (y // 2) * 2
    probabilities = pair_probabilities(outputs[3], first)
    root = np.sqrt(probabilities.prod(axis=1, keepdims=True)) * np.array([-1.0, 1.0], np.float32)
    slopes = root if expected else loss_slopes(probabilities, y)
    result = np.empty((len(y), WIDTH), np.float32)
    parts = views(result)
    for k, delta in enumerate(backward(flat, outputs, first, slopes)):
        np.einsum("ni,nj->nij", outputs[k], delta, out=parts.weights[k])
        parts.biases[k][...] = delta
    return result


def accuracy(flat: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Return the share right, the task being known (two classes to choose from)."""
    logits, rows, first = activations(flat, x)[3], np.arange(len(y)), (y // 2) * 2
    return float(np.mean((logits[rows, first + 1] > logits[rows, first]) == (y % 2 == 1)))
