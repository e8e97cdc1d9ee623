"""The CIFAR-10 network's SGD steps on CPU threads: one network a thread, no library call in a step.

At batch 4 a step is 13 MFLOP, and a framework spends most of its time on overhead. Here a step is a few
loops over planes that fit into the first-level cache. Two choices make them fast:

- A plane of an image is one flat row. The output at ``i`` needs the input at ``i + 32 ky + kx``, so a
  convolution adds five shifted rows at a time, over the whole plane at once, and its weight gradient
  is five dot products. Positions that straddle two image rows hold numbers that pooling never reads and
  that are zero in gradients.
- Sums may be reordered and multiplications fused (`_FASTMATH`), which lets LLVM use vectors; NaN and
  infinity keep their meaning, because divergence must show.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import njit

from papershell.kernels.backends import cpu_count
from papershell.kernels.cifar10_net.network import CLASSES, EDGES, IMAGE_SHAPE, WEIGHTS
from papershell.kernels.cifar10_net.problem import Problem, check_order

_FASTMATH = {"reassoc", "contract", "nsz"}
_options = {"fastmath": _FASTMATH, "error_model": "numpy", "cache": True, "nogil": True}
_jit = njit(**_options)
# Everything below the loop of steps is inlined into it. A callee that is linked instead rounds differently in the
# process that compiles it than in those that load it from the cache, because each was optimized in another context.
_inline = njit(inline="always", **_options)

_CONV1, _CONV2, _FC1, _FC2, _FC3 = WEIGHTS.values()
_WINDOW = 5  # the inner loops below are written out for it
assert _CONV1[2:] == _CONV2[2:] == (_WINDOW, _WINDOW)
_SIDE1 = IMAGE_SHAPE[1]  # rows of the image, of the first convolution, of its pooled planes: 32, 28, 14
_OUT1 = _SIDE1 - _WINDOW + 1
_HALF1 = _OUT1 // 2
_SIDE2 = _HALF1  # 14, 10, 5
_OUT2 = _SIDE2 - _WINDOW + 1
_HALF2 = _OUT2 // 2
_VALID1 = (_OUT1 - 1) * _SIDE1 + _OUT1  # flat outputs from the first to the last valid position
_VALID2 = (_OUT2 - 1) * _SIDE2 + _OUT2
_PAD = _WINDOW - 1  # zeros before a gradient plane, so that it may be shifted by a window's width
_LINE = 16  # floats in a cache line: a plane is a whole number of them, with room for the reads past its end
_PLANE1, _PLANE2 = (-(-(side * side + _PAD) // _LINE) * _LINE for side in (_SIDE1, _SIDE2))  # 1040, 208


@_inline
def _convolve(x, w, b, side, valid, out):
    """out (O, plane) = b + correlation of x (C, plane) with w (O, C, 5, 5).

    At a valid position i = side * row + column: out[o, i] = b[o] + sum over c, ky, kx of
    w[o, c, ky, kx] * x[c, i + side * ky + kx].
    """
    for o in range(w.shape[0]):
        row = out[o]
        row[:valid] = b[o]
        for c in range(w.shape[1]):
            for ky in range(5):
                s = x[c, ky * side :]
                k = w[o, c, ky]
                k0, k1, k2, k3, k4 = k[0], k[1], k[2], k[3], k[4]
                for i in range(valid):
                    row[i] += k0 * s[i] + k1 * s[i + 1] + k2 * s[i + 2] + k3 * s[i + 3] + k4 * s[i + 4]


@_inline
def _convolve_grad(x, d, side, valid, dw, db):
    """dw (O, C, 5, 5) += correlation of x (C, plane) with d (O, _PAD + plane); db (O,) += sum of d.

    dw[o, c, ky, kx] += sum over i of d[o, i] * x[c, i + side * ky + kx]. Five sums run at once, so that each d[o, i]
    is loaded once a row of the window.
    """
    for o in range(dw.shape[0]):
        g = d[o, _PAD:]
        for i in range(valid):
            db[o] += g[i]
        for c in range(dw.shape[1]):
            for ky in range(5):
                s = x[c, ky * side :]
                k = dw[o, c, ky]
                k0 = k1 = k2 = k3 = k4 = np.float32(0)
                for i in range(valid):
                    k0 += g[i] * s[i]
                    k1 += g[i] * s[i + 1]
                    k2 += g[i] * s[i + 2]
                    k3 += g[i] * s[i + 3]
                    k4 += g[i] * s[i + 4]
                k[0] += k0
                k[1] += k1
                k[2] += k2
                k[3] += k3
                k[4] += k4


@_inline
def _convolve_grad_x(d, w, side, valid, dx):
    """dx (C, plane) = full convolution of d (O, _PAD + plane) with w (O, C, 5, 5).

    dx[c, i + side * ky + kx] += w[o, c, ky, kx] * d[o, i], turned around: for each i the sum over kx of
    w[o, c, ky, kx] * d[o, i - kx], for which `_PAD` zeros stand before d.
    """
    dx[:] = 0
    for o in range(w.shape[0]):
        g = d[o]
        for c in range(w.shape[1]):
            for ky in range(5):
                row = dx[c, ky * side :]
                k = w[o, c, ky]
                k0, k1, k2, k3, k4 = k[0], k[1], k[2], k[3], k[4]
                for i in range(valid + _PAD):
                    row[i] += k0 * g[i + 4] + k1 * g[i + 3] + k2 * g[i + 2] + k3 * g[i + 1] + k4 * g[i]


@_inline
def _relu_pool(x, side, half, out, winner):
    """Maximum of 2 x 2 after relu; ``winner`` is its position, or -1 if the maximum is not positive."""
    for c in range(out.shape[0]):
        for y in range(half):
            for z in range(half):
                at = 2 * y * side + 2 * z
                best, place = x[c, at], at
                for other in (at + 1, at + side, at + side + 1):
                    value = x[c, other]
                    place = other if value > best else place
                    best = value if value > best else best
                off = best <= 0  # false for NaN, which must go on
                out[c, y * half + z] = np.float32(0) if off else best
                winner[c, y * half + z] = -1 if off else place


@_inline
def _relu_pool_grad(d_out, winner, d):
    """Put each pooled gradient at the position of its maximum, in planes of zeros."""
    d[:] = 0
    for c in range(winner.shape[0]):
        for j in range(winner.shape[1]):
            if winner[c, j] >= 0:
                d[c, _PAD + winner[c, j]] = d_out[c, j]


@_inline
def _linear(x, w, b, relu, out):
    """out (B, O) = x (B, I) w' + b, with relu if asked."""
    for o in range(w.shape[0]):
        row = w[o]
        for n in range(x.shape[0]):
            total = b[o]
            for i in range(w.shape[1]):
                total += row[i] * x[n, i]
            out[n, o] = np.float32(0) if relu and total <= 0 else total


@_inline
def _linear_grad(x, w, d, dw, db, dx):
    """dw (O, I) = d' x, db (O) = sum of d, dx (B, I) = d w, for d (B, O)."""
    dx[:] = 0
    for o in range(w.shape[0]):
        row, grad = w[o], dw[o]
        grad[:] = 0
        db[o] = 0
        for n in range(x.shape[0]):
            g = d[n, o]
            db[o] += g
            for i in range(w.shape[1]):
                grad[i] += g * x[n, i]
                dx[n, i] += g * row[i]


@_inline
def _relu_grad(activation, d):
    for n in range(d.shape[0]):
        for i in range(d.shape[1]):
            d[n, i] = np.float32(0) if activation[n, i] <= 0 else d[n, i]


@_inline
def _cross_entropy(logits, labels, rows, d):
    """Return the batch's mean cross-entropy, log(sum exp(z)) - z[label]; ``d`` becomes (softmax(z) - onehot) / B."""
    share = np.float32(1) / np.float32(len(rows))
    loss = np.float32(0)
    for n in range(len(rows)):
        row, label = logits[n], labels[rows[n]]
        top = row[0]
        for k in range(1, CLASSES):
            top = max(top, row[k])
        total = np.float32(0)
        for k in range(CLASSES):
            d[n, k] = np.exp(row[k] - top)
            total += d[n, k]
        for k in range(CLASSES):
            d[n, k] *= share / total
        d[n, label] -= share
        loss += (np.log(total) + top - row[label]) * share
    return loss


@_inline
def _views(flat):
    """Weight and bias of each layer inside the flat vector (62006,)."""
    e = EDGES
    return (
        (flat[e[0] : e[1]].reshape(_CONV1), flat[e[1] : e[2]]),
        (flat[e[2] : e[3]].reshape(_CONV2), flat[e[3] : e[4]]),
        (flat[e[4] : e[5]].reshape(_FC1), flat[e[5] : e[6]]),
        (flat[e[6] : e[7]].reshape(_FC2), flat[e[7] : e[8]]),
        (flat[e[8] : e[9]].reshape(_FC3), flat[e[9] : e[10]]),
    )


class _Workspace(NamedTuple):
    """All intermediate arrays of a step on B images; ``d_x`` is the gradient of the loss with respect to ``x``."""

    x: np.ndarray  # (B, 3, plane) normalized pixels
    a1: np.ndarray  # (6, plane) first convolution of one image
    win1: np.ndarray  # (B, 6, 196) the position of each pooled maximum
    p: np.ndarray  # (B, 6, plane) pooled
    a2: np.ndarray
    win2: np.ndarray
    h2: np.ndarray  # (B, 400) pooled, as the linear layers see it
    h3: np.ndarray
    h4: np.ndarray
    logits: np.ndarray
    d_a1: np.ndarray
    d_p: np.ndarray
    d_a2: np.ndarray
    d_h2: np.ndarray
    d_h3: np.ndarray
    d_h4: np.ndarray
    d_logits: np.ndarray


def _workspace(batch: int) -> _Workspace:
    def floats(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    def places(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int32)

    return _Workspace(
        x=floats(batch, _CONV1[1], _PLANE1),
        a1=floats(_CONV1[0], _PLANE1),
        win1=places(batch, _CONV1[0], _HALF1 * _HALF1),
        p=floats(batch, _CONV2[1], _PLANE2),
        a2=floats(_CONV2[0], _PLANE2),
        win2=places(batch, _CONV2[0], _HALF2 * _HALF2),
        h2=floats(batch, _FC1[1]),
        h3=floats(batch, _FC2[1]),
        h4=floats(batch, _FC3[1]),
        logits=floats(batch, CLASSES),
        d_a1=floats(_CONV1[0], _PAD + _PLANE1),
        d_p=floats(_CONV2[1], _PLANE2),
        d_a2=floats(_CONV2[0], _PAD + _PLANE2),
        d_h2=floats(batch, _FC1[1]),
        d_h3=floats(batch, _FC2[1]),
        d_h4=floats(batch, _FC3[1]),
        d_logits=floats(batch, CLASSES),
    )


@_inline
def _forward(params, images, levels, rows, w):
    """Fill the workspace up to the logits."""
    (w1, b1), (w2, b2), (w3, b3), (w4, b4), (w5, b5) = _views(params)
    for n in range(len(rows)):
        pixels = images[rows[n]]
        for c in range(pixels.shape[0]):
            for i in range(_SIDE1 * _SIDE1):
                w.x[n, c, i] = levels[pixels[c, i]]
        _convolve(w.x[n], w1, b1, _SIDE1, _VALID1, w.a1)
        _relu_pool(w.a1, _SIDE1, _HALF1, w.p[n], w.win1[n])
        _convolve(w.p[n], w2, b2, _SIDE2, _VALID2, w.a2)
        _relu_pool(w.a2, _SIDE2, _HALF2, w.h2[n].reshape(_CONV2[0], _HALF2 * _HALF2), w.win2[n])
    _linear(w.h2, w3, b3, True, w.h3)
    _linear(w.h3, w4, b4, True, w.h4)
    _linear(w.h4, w5, b5, False, w.logits)


@_inline
def _backward(params, w, grad):
    """Carry ``w.d_logits`` back to every parameter: ``grad`` (62006,)."""
    (_, _), (w2, _), (w3, _), (w4, _), (w5, _) = _views(params)
    (dw1, db1), (dw2, db2), (dw3, db3), (dw4, db4), (dw5, db5) = _views(grad)
    _linear_grad(w.h4, w5, w.d_logits, dw5, db5, w.d_h4)
    _relu_grad(w.h4, w.d_h4)
    _linear_grad(w.h3, w4, w.d_h4, dw4, db4, w.d_h3)
    _relu_grad(w.h3, w.d_h3)
    _linear_grad(w.h2, w3, w.d_h3, dw3, db3, w.d_h2)
    grad[: EDGES[4]] = 0
    for n in range(len(w.h2)):
        _relu_pool_grad(w.d_h2[n].reshape(_CONV2[0], _HALF2 * _HALF2), w.win2[n], w.d_a2)
        _convolve_grad(w.p[n], w.d_a2, _SIDE2, _VALID2, dw2, db2)
        _convolve_grad_x(w.d_a2, w2, _SIDE2, _VALID2, w.d_p)
        _relu_pool_grad(w.d_p, w.win1[n], w.d_a1)
        _convolve_grad(w.x[n], w.d_a1, _SIDE1, _VALID1, dw1, db1)


@_inline
def _gradient(params, images, labels, levels, rows, w, grad):
    """Return the batch's loss and write its gradient to ``grad``."""
    _forward(params, images, levels, rows, w)
    loss = _cross_entropy(w.logits, labels, rows, w.d_logits)
    _backward(params, w, grad)
    return loss


@_inline
def _update(params, velocity, grad, learning_rate, momentum):
    for i in range(len(params)):
        velocity[i] = momentum * velocity[i] + grad[i]
        params[i] -= learning_rate * velocity[i]


@_jit
def _steps(params, velocity, images, labels, levels, order, learning_rate, momentum, w, grad, losses):
    """One step per row of ``order`` (T, B); stop at a loss that is not finite."""
    for t in range(len(order)):
        losses[t] = _gradient(params, images, labels, levels, order[t], w, grad)
        if not np.isfinite(losses[t]):
            return
        _update(params, velocity, grad, learning_rate, momentum)


class Sgd:
    """See `papershell.kernels.cifar10_net.sgd`."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._params, self._velocity = problem.params.copy(), problem.velocity.copy()
        pixels = np.ascontiguousarray(problem.images).reshape(-1, IMAGE_SHAPE[0], _SIDE1 * _SIDE1)
        self._data = (pixels, problem.labels.astype(np.uint8), np.ascontiguousarray(problem.levels))
        self._rates = (np.float32(problem.learning_rate), np.float32(problem.momentum))

    def run(self, order: np.ndarray) -> np.ndarray:
        """See `papershell.kernels.cifar10_net.Sgd.run`."""
        check_order(order, self._problem)
        order = np.ascontiguousarray(order)  # one compiled version serves all
        losses = np.full(order.shape[:2], np.nan, np.float32)
        if self._problem.reduce:
            self._run_together(order, losses)
        else:
            with ThreadPoolExecutor(cpu_count()) as threads:
                list(threads.map(self._run_alone, range(len(order)), order, losses))
        return losses

    def _run_alone(self, s: int, order: np.ndarray, losses: np.ndarray) -> None:
        """The steps of network ``s``, in one compiled call that leaves the GIL to others."""
        params, velocity = self._params[s], self._velocity[s]
        work, grad = _workspace(order.shape[1]), np.empty_like(params)
        _steps(params, velocity, *self._data, order, *self._rates, work, grad, losses)

    def _run_together(self, order: np.ndarray, losses: np.ndarray) -> None:
        """Step by step, all gradients averaged over the processes before each update."""
        assert self._problem.reduce
        work, grads = _workspace(order.shape[2]), np.empty_like(self._params)
        for t in range(order.shape[1]):
            for s, grad in enumerate(grads):
                losses[s, t] = _gradient(self._params[s], *self._data, order[s, t], work, grad)
            self._problem.reduce(grads)
            for s, grad in enumerate(grads):
                _update(self._params[s], self._velocity[s], grad, *self._rates)

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """See `papershell.kernels.cifar10_net.Sgd.state`."""
        return self._params.copy(), self._velocity.copy()
