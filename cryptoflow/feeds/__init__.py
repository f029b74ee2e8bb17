"""From a feed's socket to trades: the protocol without I/O, reconnects, gaps, and the client around them."""
