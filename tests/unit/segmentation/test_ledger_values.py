"""The values that pass through the ports, and the tree of errors."""

import pytest

from segmentation import errors
from segmentation.answers import PartitionStatus
from segmentation.outcomes import Partition


@pytest.mark.parametrize(
    ("next_offset", "end_offset", "lag"), [(None, None, 0), (None, 5, 5), (3, 5, 2), (5, 5, 0), (7, 5, 0), (3, None, 0)]
)
def test_lag_is_what_was_not_read_yet(next_offset, end_offset, lag):
    assert PartitionStatus(Partition("t", 0), next_offset, end_offset, None).lag == lag


def test_every_error_is_of_one_tree_and_in_the_drawing():
    for name, error in vars(errors).items():
        if isinstance(error, type):
            if error is not errors.SegmentationError and issubclass(error, Exception):
                assert issubclass(error, errors.SegmentationError)
            if issubclass(error, errors.SegmentationError):
                assert name in str(errors.__doc__)
                assert error.__doc__


def test_a_lost_partition_says_which():
    lost = errors.PartitionLost([("logistics.returns", 1), ("logistics.orders", 0)])
    assert str(lost) == "logistics.orders/0, logistics.returns/1"
    assert lost.partitions == {("logistics.orders", 0), ("logistics.returns", 1)}
