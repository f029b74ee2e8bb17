"""What a monitoring system is told: the runs' typed metrics and the stores' facts, in Prometheus' form."""
