"""Feed servers for tests, and for runs without a key: CryptoCompare's streamer v2, and venues with their REST."""

from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import frames
from cryptoflow.simulator.handle import Simulator
from cryptoflow.simulator.limits import Tally
from cryptoflow.simulator.sent import Sent

__all__ = ["Faults", "Sent", "Simulator", "SimulatorConfig", "Tally", "frames"]
