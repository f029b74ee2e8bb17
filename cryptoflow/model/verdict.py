"""What is known of an hour of a pair: whether its candles have all trades, and why that is so."""

COMPLETE, REPAIRED, SUSPECT = "complete", "repaired", "suspect"
VERDICTS = (COMPLETE, REPAIRED, SUSPECT)
"""The candles had all that the log has; they have it now; it can't be told, or not be mended."""

LOG_CUT = "log cut"
"""Why: the log does not hold all trades of the hour, or no more."""

LATE_TRADES, DIFFERENT, ALL_THERE = "late trades", "the rows differed", "the candles have all trades of the log"
"""Why."""
