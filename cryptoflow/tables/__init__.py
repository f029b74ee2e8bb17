"""The tables in Cassandra: what they are, how to reach them, how they are written and read."""
