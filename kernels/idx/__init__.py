"""The IDX format: header and errors, inflate, decode, write."""

from kernels.idx.header import IdxError
from kernels.idx.normalized import read_normalized
from kernels.idx.read import map_idx, read_idx
from kernels.idx.write import write_idx

__all__ = ["IdxError", "map_idx", "read_idx", "read_normalized", "write_idx"]
