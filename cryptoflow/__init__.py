"""cryptoflow: live crypto trades through Kafka and Spark into candles in Cassandra, run by Dagster."""

__version__ = "0.2.0"
