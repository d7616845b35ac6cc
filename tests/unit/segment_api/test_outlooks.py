"""What the document shows of a model's words is what the API says."""

from segment_api.model_schemas import RISK_EXAMPLE
from segmentation.drivers import driver
from segmentation.features import FEATURES


def test_the_example_of_a_reason_is_one_that_is_given() -> None:
    (shown,) = RISK_EXAMPLE["drivers"]
    known = dict.fromkeys(FEATURES, 0.0) | {"recency_days": 2.0, "knows_gap": 1.0, "gap_mean_days": 9.0}
    reason = driver(shown["code"], shown["effect"], known, "CNY")
    assert (reason.names["en"], reason.text("en")) == (shown["name"], shown["words"])
