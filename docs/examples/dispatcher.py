"""A dispatcher: ranks the orders that wait, in one call, and ranks them anew when one of their customers is promoted.

    TIERLINE_API_KEY=... python docs/examples/dispatcher.py orders.json --api http://127.0.0.1:8080

`orders.json` is a list of up to 10,000 such as [{"order_id": "O-77", "customer_id": "C-1042"}]. The key needs the scope
`dispatch`. It goes on until Ctrl-C, or until `--promotions` have been seen.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tierline import Ranking, Tierline


def show(ranking: Ranking, first: int) -> None:
    """The best places."""
    print(f"{len(ranking.orders)} orders ranked", flush=True)
    for place in ranking.orders[:first]:
        reasons = "; ".join(place.reasons)
        print(f"{place.rank:>6}  {place.order_id:<16} {place.customer_id:<16} {reasons}", flush=True)


def main() -> None:
    """Ranks, follows, ranks anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("orders", type=Path, help="a JSON file with a list of orders")
    parser.add_argument("--api", default="http://127.0.0.1:8080", help="where Tierline listens")
    parser.add_argument("--first", type=int, default=10, help="so many are printed")
    parser.add_argument("--promotions", type=int, help="end after so many; without it, never")
    asked = parser.parse_args()
    orders: list[dict[str, Any]] = json.loads(asked.orders.read_text(encoding="utf-8"))
    waiting = {order["customer_id"] for order in orders}
    seen = 0
    with Tierline(asked.api) as tierline, tierline.changes() as changes:
        show(tierline.priorities(orders), asked.first)
        for change in changes:
            if change.customer_id not in waiting or not change.promoted:
                continue
            print(f"{change.customer_id} is promoted to {change.tier}", flush=True)
            show(tierline.priorities(orders), asked.first)
            seen += 1
            if seen == asked.promotions:
                return


if __name__ == "__main__":
    main()
