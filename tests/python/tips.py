"""A data team's own consumer: prints the event ids of all tips, by Confluent's standard Avro deserialiser.

usage: tips.py BOOTSTRAP REGISTRY_URL
"""

import sys
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

TOPIC = "coaching.tips"


def main() -> None:
    bootstrap, registry = sys.argv[1:]
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": str(uuid.uuid4()),
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions
    consumer.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in partitions])
    ended = set()
    while len(ended) < len(partitions):
        record = consumer.poll(30)
        if record is None:
            sys.exit("nothing came for 30 s")
        if record.error():
            if record.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(record.error()))
            ended.add(record.partition())
            continue
        event = deserialize(record.value(), SerializationContext(TOPIC, MessageField.VALUE))
        if event["type"] == "tip":
            assert event["tip"]["say"] and event["call_id"] == record.key().decode()
            print(event["event_id"])
    consumer.close()


if __name__ == "__main__":
    main()
