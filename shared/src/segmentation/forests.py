"""Gradient-boosted trees over binned features, walked for many customers at once.

Laws: what comes out for a customer depends on that customer's features alone, to the last bit, not on the batch; a
tree is small arrays of numbers with children after their parents, so a walk always ends.

A tree has at most eight leaves, so the leaves that a customer can still be in are the bits of a byte. Every split that
a customer fails takes the leaves on its left away, and of those left over the leftmost is the customer's (QuickScorer,
Lucchese et al. 2015). What each feature takes away from every tree is looked up by its bin: one row of a table for each
feature, instead of a walk through each tree.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from segmentation.errors import ModelInvalid
from segmentation.features import Numbers

Codes = npt.NDArray[np.uint8]

MOST_BINS: Final = 64
MOST_LEAVES: Final = 8
MOST_TREES: Final = 400
_LEAF: Final = -1
_ALL_LEAVES: Final = 0xFF
_ROWS: Final = 512
"""At a time: what they need stays in the processor's cache."""
_LOWEST_BIT: Final = np.array([0, *((each & -each).bit_length() - 1 for each in range(1, 256))], dtype=np.uint8)


class Bins(Struct, frozen=True):
    """Each feature cut into at most 64 bins: what trees look at."""

    edges: tuple[Numbers, ...]

    def codes(self, features: Numbers) -> Codes:
        """Per value the number of edges at or below it; a row a feature, a column a customer."""
        return np.stack(
            [
                np.searchsorted(edges, column, side="right").astype(np.uint8)
                for edges, column in zip(self.edges, np.ascontiguousarray(features.T), strict=True)
            ]
        )


class Tree(Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes in arrays, the root first. A leaf's feature is -1, and only its value counts."""

    feature: list[int]
    """The column that a split looks at."""
    bin: list[int]
    """Customers whose bin is this or a lower one go left."""
    left: list[int]
    right: list[int]
    value: list[float]

    def check(self, edges: Sequence[int], where: str) -> None:
        """Raises ModelInvalid unless these are the nodes of one tree over columns with so many edges."""
        nodes = len(self.value)
        if not all(len(each) == nodes for each in (self.feature, self.bin, self.left, self.right)):
            raise ModelInvalid(f"{where}: its arrays are not equally long")
        if not 1 <= nodes < 2 * MOST_LEAVES:
            raise ModelInvalid(f"{where} has {nodes} nodes; 1 to {2 * MOST_LEAVES - 1} are expected")
        children: list[int] = []
        for node, feature in enumerate(self.feature):
            if feature == _LEAF:
                continue
            if not 0 <= feature < len(edges):
                raise ModelInvalid(f"{where}, node {node}: feature is {feature}; {len(edges)} are known")
            if not 0 <= self.bin[node] < edges[feature]:
                raise ModelInvalid(f"{where}, node {node}: bin is {self.bin[node]}; {edges[feature]} can be split at")
            if not all(node < child < nodes for child in (self.left[node], self.right[node])):
                raise ModelInvalid(f"{where}, node {node}: its children have to come after it")
            children += (self.left[node], self.right[node])
        if sorted(children) != list(range(1, nodes)):
            raise ModelInvalid(f"{where}: each node but the root needs exactly one parent")

    def leaves(self) -> "tuple[list[int], list[tuple[int, int, int]]]":
        """The leaves from left to right; and per split its feature, its bin, and the bits of the leaves on its left."""
        found: list[int] = []
        splits: list[tuple[int, int, int]] = []

        def walk(node: int) -> int:
            if self.feature[node] == _LEAF:
                found.append(node)
                return 1 << (len(found) - 1)
            left = walk(self.left[node])
            splits.append((self.feature[node], self.bin[node], left))
            return left | walk(self.right[node])

        walk(0)
        return found, splits


class Forest(Struct, frozen=True, forbid_unknown_fields=True):
    """Trees whose values are added to a first one."""

    start: float
    trees: list[Tree]


class Forests:
    """Several forests over the same bins, made ready to be walked together."""

    def __init__(self, bins: Bins, forests: Sequence[Forest]) -> None:
        trees = [tree for forest in forests for tree in forest.trees]
        self._starts = [forest.start for forest in forests]
        self._ends = np.cumsum([len(forest.trees) for forest in forests]).tolist()
        self._values = np.zeros((len(trees), MOST_LEAVES))
        self._taken: dict[int, Codes] = {}
        for number, tree in enumerate(trees):
            found, splits = tree.leaves()
            self._values[number, : len(found)] = [tree.value[leaf] for leaf in found]
            for feature, last_left, left in splits:
                table = self._taken.get(feature)
                if table is None:
                    shape = (len(bins.edges[feature]) + 1, len(trees))
                    table = self._taken[feature] = np.full(shape, _ALL_LEAVES, dtype=np.uint8)
                table[last_left + 1 :, number] &= ~left & _ALL_LEAVES
        self._places = np.arange(len(trees), dtype=np.intp) * MOST_LEAVES

    def sums(self, codes: Codes) -> Numbers:
        """Per forest and customer the first value and those of the leaves, added up."""
        customers = codes.shape[1]
        found = np.empty((len(self._starts), customers))
        for begin in range(0, customers, _ROWS):
            rows = slice(begin, begin + _ROWS)
            values = self._leaf_values(codes[:, rows])
            first = 0
            for forest, (start, end) in enumerate(zip(self._starts, self._ends, strict=True)):
                found[forest, rows] = start + values[:, first:end].sum(axis=1)
                first = end
        return found

    def _leaf_values(self, codes: Codes) -> Numbers:
        left = np.full((codes.shape[1], len(self._values)), _ALL_LEAVES, dtype=np.uint8)
        for feature, table in self._taken.items():
            left &= table[codes[feature]]
        values: Numbers = self._values.ravel()[_LOWEST_BIT[left] + self._places]
        return values
