"""Local services: real Kafka and Cassandra as processes of this machine, without Docker."""
