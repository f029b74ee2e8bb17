"""Feed servers for tests, and for runs without a key: CryptoCompare's streamer v2, and venues with their REST."""
