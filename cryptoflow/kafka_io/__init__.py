"""Kafka: its topics, the producer of trades and dead letters, and offsets; on kafka-python."""
