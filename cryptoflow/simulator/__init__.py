"""A server that speaks CryptoCompare's streamer v2: the feed where there is no API key, and for tests."""

from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import frames
from cryptoflow.simulator.handle import Simulator
from cryptoflow.simulator.sent import Sent

__all__ = ["Faults", "Sent", "Simulator", "SimulatorConfig", "frames"]
