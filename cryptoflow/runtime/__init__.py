"""How a part of a run lives: its stop, its lease, its status, and when the next one is launched."""
