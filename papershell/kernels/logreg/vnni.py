"""Products of bytes by VNNI, exact in 32 bits, without any library: Numba kernels around one instruction, vpdpbusd.

It multiplies words of four unsigned bytes by words of four signed ones and adds the four products to a 32-bit lane. So
both operands are put in words of four numbers that follow each other along the axis that is summed (`put_in_words`):

    product    X W    a lane is a column of W; a word of four features of a row is multiplied with all lanes
    Sums       X'D    a lane is a feature; a word of four rows of a column of D is multiplied with all lanes

The sums of a tile stay in registers. A tile asks for the rows that follow while it works; without that the kernels wait
for memory half of their time: the hardware does not foresee reads of four bytes from each of many rows.

Intel, "Intrinsics guide", VPDPBUSD; Goto, van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from papershell.kernels import threads
from papershell.kernels.backends import cpu_count, has_vnni
from papershell.kernels.logreg.products import LARGEST_INTEGER_SUM
from papershell.kernels.logreg.vector_math import jit

WORD = 4  # bytes
LANES, NARROWEST = 16, 8  # words in a register, and in half of one
TILE_ROWS, TILE_LANES = 8, 2 * LANES  # of a product
TILE_FEATURES, TILE_COLUMNS = 2 * LANES, 8  # of sums over rows
BLOCK_ROWS = 256  # in words at a time: they stay in a core's cache
ROWS_AT_ONCE = 64  # that a product takes through all columns, for the same reason
WORDS_AHEAD = 2  # put in words while the first of them come from memory

I8, I32 = ir.IntType(8), ir.IntType(32)


@cache
def is_available() -> bool:
    """Return whether this processor and Numba have the instruction, and a probe finds its products exact."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")  # those that Numba may use
    if not (has_vnni() and {"+avx512vnni", "+avx512vl"} <= set(features)):
        return False
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (TILE_ROWS + 3, 37), dtype=np.uint8)
    W = rng.integers(-128, 128, (37, 71), dtype=np.int8)
    X[:, :8], W[:8] = 255, 127
    out = np.empty((len(X), columns(71)), np.int32)
    try:
        product(X, pack(W), out)
        sums = Sums(37, 71, len(X))
        sums.digits[:, :71] = W[: len(X)]
        sums.add(X)
    except (NumbaError, RuntimeError):  # LLVM has it by another name
        return False
    wide = X.astype(np.int64)
    return np.array_equal(out[:, :71], wide @ W) and np.array_equal(sums.total(), wide.T @ W[: len(X)])


def columns(C: int) -> int:
    """Return how many columns a product of C columns has room for."""
    return -(-C // NARROWEST) * NARROWEST


def pack(digits: np.ndarray) -> np.ndarray:
    """Return weights (P, C) int8 as `product` takes them."""
    P, C = digits.shape
    words = np.zeros((-(-C // TILE_LANES), -(-P // WORD), TILE_LANES, WORD), np.int8)
    for tile, room in enumerate(words):
        part = digits[:, tile * TILE_LANES : (tile + 1) * TILE_LANES]
        put_in_words(np.ascontiguousarray(part).view(np.uint8), room.view(np.uint8))
    return words


def task(function: Callable) -> Callable:
    """Return ``function`` as a task of the pool."""
    return function


class Sums:
    """See `on_bytes.Sums`."""

    def __init__(self, P: int, C: int, rows: int):
        self.P, self.C = P, C
        width, features = -(-C // WORD) * WORD, -(-P // TILE_FEATURES) * TILE_FEATURES
        self.digits = np.zeros((rows, width), np.int8)
        self.sums = np.zeros((width, features), np.int32)
        self.X_words = np.zeros((BLOCK_ROWS // WORD, features, WORD), np.uint8)
        self.D_words = np.zeros((BLOCK_ROWS // WORD, width, WORD), np.int8)

    def add(self, X: np.ndarray, symmetric: bool = False) -> None:
        """Add X (n, P) uint8 times the first n rows of `digits`; of a symmetric result the upper triangle will do."""
        add_product(X, self.digits[: len(X)], self.X_words, self.D_words, self.sums, symmetric)

    def total(self) -> np.ndarray:
        """Return the sums (P, C)."""
        return self.sums[: self.C, : self.P].T


def gram(X: np.ndarray) -> np.ndarray:
    """Return X'X (P, P) of bytes (N, P) uint8, exact in float64: X'X = X'(X - 128) + 128 (column sums) 1'."""
    N, P = X.shape
    share = min(-(-N // cpu_count()), LARGEST_INTEGER_SUM)

    def of_share(first: int) -> tuple[np.ndarray, np.ndarray]:
        sums, rows = Sums(P, P, BLOCK_ROWS), X[first : first + share]
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            np.bitwise_xor(block, 128, out=sums.digits[: len(block), :P].view(np.uint8))
            sums.add(block, symmetric=True)
        return sums.total().T, rows.sum(axis=0, dtype=np.int64)

    found, totals = np.zeros((P, P)), np.zeros(P)
    for product_, total in threads.pool().map(of_share, range(0, N, share)):
        found += product_
        totals += total
    found += 128.0 * totals
    np.copyto(found, found.T, where=np.tri(P, k=-1, dtype=bool))
    return found


# Code of LLVM: a function below is compiled for one shape of tile, whose loops over rows and columns are unrolled


def _address(
    context: Any, builder: Any, kind: Any, value: Any, index: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Return the address of an element of an array, and the array's strides in bytes."""
    array = context.make_array(kind)(context, builder, value)
    shape, strides = (cgutils.unpack_tuple(builder, part) for part in (array.shape, array.strides))
    pointer = cgutils.get_item_pointer2(context, builder, array.data, shape, strides, "C", index)
    return builder.bitcast(pointer, I8.as_pointer()), strides


def _beyond(builder: Any, pointer: Any, *bytes_: Any) -> Any:
    """Return the address so many bytes further on."""
    for count in bytes_:
        pointer = builder.gep(pointer, [count], source_etype=I8)
    return pointer


def _load(builder: Any, pointer: Any, kind: Any) -> Any:
    found = builder.load(builder.bitcast(pointer, kind.as_pointer()), typ=kind)
    found.align = 1
    return found


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = 1


def _prefetch(builder: Any, pointer: Any) -> None:
    """Ask for a cache line to be read: for reading, to be kept, as data."""
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, I32(0), I32(3), I32(1)])


def _on_all_lanes(builder: Any, word: Any, lanes: int) -> Any:
    nothing = ir.Constant(ir.VectorType(I32, lanes), ir.Undefined)
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(builder.insert_element(nothing, word, I32(0)), nothing, zeros)


def _dot(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """Return ``total`` plus the products of words, lane by lane."""
    kind = ir.VectorType(I8, WORD * total.type.count)
    name = f"llvm.x86.avx512.vpdpbusd.{32 * total.type.count}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(total.type, [total.type, kind, kind]), name
    )
    return builder.call(function, [total, builder.bitcast(unsigned, kind), builder.bitcast(signed, kind)])


def _product_tile(*lanes: int) -> Any:
    """Return a function that multiplies `TILE_ROWS` rows with the columns of vectors of so many lanes."""
    rows = TILE_ROWS
    vectors = [ir.VectorType(I32, count) for count in lanes]
    places = [WORD * sum(lanes[:v]) for v in range(len(lanes))]  # of the vectors, in bytes

    @intrinsic
    def tile(typingctx, X, row, words, number, count, out):
        """Set a tile of ``out`` (n, C) to rows of X times ``count`` words of features of the tile's columns."""

        def generate(context, builder, signature, args):
            size = context.get_value_type(types.intp)
            x, (stride, _) = _address(context, builder, signature.args[0], args[0], [args[1], size(0)])
            w, (_, word_stride, _, _) = _address(
                context, builder, signature.args[2], args[2], [args[3], size(0), size(0), size(0)]
            )
            column = builder.mul(args[3], size(TILE_LANES))
            o, (out_stride, _) = _address(context, builder, signature.args[5], args[5], [args[1], column])
            total = [
                [cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for kind in vectors]
                for _ in range(rows)
            ]
            next_tile = _beyond(builder, x, builder.mul(stride, size(rows)))
            with cgutils.for_range(builder, args[4]) as loop:
                _prefetch(builder, _beyond(builder, next_tile, builder.mul(loop.index, size(WORD * rows))))
                here = _beyond(builder, x, builder.mul(loop.index, size(WORD)))
                weights = _beyond(builder, w, builder.mul(loop.index, word_stride))
                W = [
                    _load(builder, _beyond(builder, weights, size(place)), kind)
                    for place, kind in zip(places, vectors, strict=True)
                ]
                for m in range(rows):
                    word = _load(builder, here, I32)
                    here = _beyond(builder, here, stride)
                    for v, kind in enumerate(vectors):
                        found = _dot(
                            builder, builder.load(total[m][v], typ=kind), _on_all_lanes(builder, word, lanes[v]), W[v]
                        )  # fmt: skip
                        builder.store(found, total[m][v])
            for m in range(rows):
                for v, kind in enumerate(vectors):
                    to = _beyond(builder, o, builder.mul(out_stride, size(m)), size(places[v]))
                    _store(builder, builder.load(total[m][v], typ=kind), to)
            return context.get_dummy_value()

        return types.void(X, row, words, number, count, out), generate

    return tile


def _sums_tile(columns: int) -> Any:
    """Return a function that adds words of rows of `TILE_FEATURES` features times those of so many columns."""
    kind = ir.VectorType(I32, LANES)
    vectors = range(TILE_FEATURES // LANES)

    @intrinsic
    def tile(typingctx, X_words, feature, D_words, column, count, sums):
        """Add to a tile of ``sums`` (C, P) the products of ``count`` words of rows."""

        def generate(context, builder, signature, args):
            size = context.get_value_type(types.intp)
            x, (x_stride, _, _) = _address(
                context, builder, signature.args[0], args[0], [size(0), args[1], size(0)]
            )
            d, (d_stride, _, _) = _address(
                context, builder, signature.args[2], args[2], [size(0), args[3], size(0)]
            )
            s, (s_stride, _) = _address(context, builder, signature.args[5], args[5], [args[3], args[1]])

            def place(v: int, c: int) -> Any:
                return _beyond(builder, s, builder.mul(s_stride, size(c)), size(WORD * LANES * v))

            total = {
                (v, c): cgutils.alloca_once_value(builder, _load(builder, place(v, c), kind))
                for v in vectors
                for c in range(columns)
            }
            with cgutils.for_range(builder, args[4]) as loop:
                features = _beyond(builder, x, builder.mul(loop.index, x_stride))
                weights = _beyond(builder, d, builder.mul(loop.index, d_stride))
                X = [
                    _load(builder, _beyond(builder, features, size(WORD * LANES * v)), kind) for v in vectors
                ]
                for c in range(columns):
                    word = _load(builder, _beyond(builder, weights, size(WORD * c)), I32)
                    D = _on_all_lanes(builder, word, LANES)
                    for v in vectors:
                        found = _dot(builder, builder.load(total[v, c], typ=kind), X[v], D)
                        builder.store(found, total[v, c])
            for (v, c), room in total.items():
                _store(builder, builder.load(room, typ=kind), place(v, c))
            return context.get_dummy_value()

        return types.void(X_words, feature, D_words, column, count, sums), generate

    return tile


@intrinsic
def _sixteen_words(typingctx, A, row, column, words, word):
    """Put four rows of sixteen columns of A (n, C) into words, and ask for the rows that follow."""

    def generate(context, builder, signature, args):
        size = context.get_value_type(types.intp)
        first, (stride, _) = _address(context, builder, signature.args[0], args[0], [args[1], size(0)])
        a = _beyond(builder, first, args[2])
        ahead = builder.mul(stride, size(WORD * WORDS_AHEAD))  # these rows, a line for every sixteen columns
        _prefetch(builder, _beyond(builder, first, ahead, builder.mul(args[2], size(WORD))))
        four = [
            _load(builder, _beyond(builder, a, builder.mul(stride, size(j))), ir.VectorType(I8, LANES))
            for j in range(WORD)
        ]
        orders = list(range(2 * LANES)), [LANES * j + i for i in range(LANES) for j in range(WORD)]
        joined, mixed = (ir.Constant(ir.VectorType(I32, len(order)), order) for order in orders)
        pairs = [builder.shuffle_vector(four[j], four[j + 1], joined) for j in (0, 2)]
        to, _ = _address(context, builder, signature.args[3], args[3], [args[4], args[2], size(0)])
        _store(builder, builder.shuffle_vector(*pairs, mixed), to)
        return context.get_dummy_value()

    return types.void(A, row, column, words, word), generate


_by_32, _by_24, _by_16, _by_8 = (_product_tile(*lanes) for lanes in ((16, 16), (16, 8), (16,), (8,)))
_eight_columns, _four_columns = _sums_tile(TILE_COLUMNS), _sums_tile(WORD)


@jit
def put_in_words(A, words):
    """Set ``words`` (ceil(n / 4), >= C, 4) to four rows each of A (n, C) uint8, zeros after the last."""
    n, C = A.shape
    whole, rest = n // WORD, n % WORD
    for word in range(whole):
        for column in range(0, C // LANES * LANES, LANES):
            _sixteen_words(A, WORD * word, column, words, word)
        for column in range(C // LANES * LANES, C):
            for j in range(WORD):
                words[word, column, j] = A[WORD * word + j, column]
    if rest:
        for column in range(C):
            for j in range(WORD):
                words[whole, column, j] = A[WORD * whole + j, column] if j < rest else 0


@jit
def product(X, words, out):
    """Set ``out`` (n, C) int32 to X (n, P) uint8 times weights in ``words`` (`pack`); C is a multiple of 8."""
    n, P = X.shape
    partial = P % WORD > 0  # then a row's last word reaches into the next row, where its weights are zero
    whole = (n - partial) // TILE_ROWS * TILE_ROWS
    for first in range(0, whole, ROWS_AT_ONCE):
        _rows(X, first, min(first + ROWS_AT_ONCE, whole), words, out)
    if whole < n:
        rest = np.zeros((TILE_ROWS, WORD * words.shape[1]), np.uint8)
        found = np.empty((TILE_ROWS, out.shape[1]), np.int32)
        rest[: n - whole, :P] = X[whole:]
        _rows(rest, 0, TILE_ROWS, words, found)
        out[whole:] = found[: n - whole]


@jit
def _rows(X, first, stop, words, out):
    """Multiply some rows, whole tiles of them."""
    tiles, count = words.shape[:2]
    for tile in range(tiles):
        left = out.shape[1] - TILE_LANES * tile
        for row in range(first, stop, TILE_ROWS):
            if left >= TILE_LANES:
                _by_32(X, row, words, tile, count, out)
            elif left == 24:
                _by_24(X, row, words, tile, count, out)
            elif left == 16:
                _by_16(X, row, words, tile, count, out)
            else:
                _by_8(X, row, words, tile, count, out)


@jit
def add_product(X, D, X_words, D_words, sums, symmetric):
    """Add X'D to ``sums`` (C, P), for X (n, P) uint8 and D (n, C) int8; the others are room, see `Sums`."""
    n, C = D.shape
    block = WORD * X_words.shape[0]
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        put_in_words(X[rows], X_words)
        put_in_words(D[rows].view(np.uint8), D_words.view(np.uint8))
        count = -(-(rows.stop - first) // WORD)
        for feature in range(0, sums.shape[1], TILE_FEATURES):
            last = min(C, feature + TILE_FEATURES) if symmetric else C
            whole = last // TILE_COLUMNS * TILE_COLUMNS
            for column in range(0, whole, TILE_COLUMNS):
                _eight_columns(X_words, feature, D_words, column, count, sums)
            if whole < last:
                _four_columns(X_words, feature, D_words, whole, count, sums)
