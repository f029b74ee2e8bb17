"""The Spark side: session, query, checkpoint and the streaming loop."""
