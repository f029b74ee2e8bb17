"""What the data is: the trade, the window, the candle. Pure: no I/O, no clock."""
