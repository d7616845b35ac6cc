"""Where a customer stands, and why, by the Python client.

TIERLINE_API_KEY=... python docs/examples/first_lookup.py C-1042 --api http://127.0.0.1:8080
"""

import argparse

from tierline import NotFound, Tierline


def main() -> None:
    """Asks, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("customer_id")
    parser.add_argument("--api", default="http://127.0.0.1:8080", help="where Tierline listens")
    asked = parser.parse_args()
    with Tierline(asked.api) as tierline:
        try:
            customer = tierline.segment(asked.customer_id)
        except NotFound:
            raise SystemExit(f"nobody has heard of {asked.customer_id} yet: send an event first") from None
        level = customer.recommended_service_level
        print(f"{customer.customer_id}: tier {customer.value_tier}, {customer.segment.name}, {level.name}")
        for sentence in tierline.explanation(asked.customer_id).tier.words:
            print(f"  {sentence}")


if __name__ == "__main__":
    main()
