"""The page of live candles, and the API behind it. It only reads."""
