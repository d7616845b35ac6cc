"""A producer: one order of a customer, as an event on Kafka.

    python docs/examples/send_order.py C-1042 O-77 1280.50 CNY --kafka 127.0.0.1:9092

It needs confluent-kafka (`pip install confluent-kafka`). docs/events.md has all types and fields.
"""

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, Message, Producer


def main() -> None:
    """Sends an order and waits until the broker has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("customer_id")
    parser.add_argument("order_id")
    parser.add_argument("amount", help="a decimal, such as 1280.50")
    parser.add_argument("currency", help="such as CNY")
    parser.add_argument("--kafka", default="127.0.0.1:9092", help="the brokers")
    parser.add_argument("--topic", default="logistics.orders")
    parser.add_argument("--at", help="when this version of the order was made, such as 2026-11-22T08:15:30Z; now")
    asked = parser.parse_args()
    at = asked.at or datetime.now(UTC).isoformat()  # noqa: TID251 - the producer's own clock says when it happened
    event = {
        # The same whenever this version of the order is sent, so that it counts once; another one for the next version.
        "event_id": f"example-{asked.order_id}-{at}",
        "type": "order",
        "customer_id": asked.customer_id,
        "occurred_at": at,
        "order_id": asked.order_id,
        "amount": asked.amount,  # a string: never a float
        "currency": asked.currency,
    }

    def told(error: KafkaError | None, message: Message) -> Any:  # noqa: ANN401 - what Kafka's client wants
        if error is not None:
            raise SystemExit(f"not sent: {error}")
        print(f"{event['event_id']} is on {message.topic()}, partition {message.partition()}")

    producer = Producer({"bootstrap.servers": asked.kafka, "enable.idempotence": True})
    producer.produce(asked.topic, json.dumps(event).encode(), key=asked.customer_id.encode(), on_delivery=told)
    if producer.flush(30) > 0:
        raise SystemExit(f"not sent: no broker answers at {asked.kafka}")


if __name__ == "__main__":
    main()
