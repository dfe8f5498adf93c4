"""A long list whose items are made when they are asked for."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")
K = TypeVar("K")


class Lazy(Sequence[T], Generic[K, T]):
    """`make(key)` of each key, worked out anew each time: a loaded data set opens no image that isn't used."""

    def __init__(self, keys: Sequence[K], make: Callable[[K], T]):
        self._keys = keys
        self._make = make

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "Lazy[K, T]": ...

    def __getitem__(self, index: int | slice) -> "T | Lazy[K, T]":
        if isinstance(index, slice):
            return Lazy(self._keys[index], self._make)
        return self._make(self._keys[index])
