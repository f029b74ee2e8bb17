"""What tests of your own pipeline need: a real feed server that does what you ask, in a thread.

>>> import json
>>> from websockets.sync.client import connect
>>> from cryptoflow.testing import Simulator, SimulatorConfig
>>> with Simulator(SimulatorConfig(rate=0, max_trades=3)) as simulator, connect(simulator.url) as socket:
...     print(json.loads(socket.recv())["MESSAGE"])
...     socket.send('{"action": "SubAdd", "subs": ["0~Coinbase~BTC~USD"]}')
...     for _ in range(5):
...         print(json.loads(socket.recv())["TYPE"])
STREAMERWELCOME
16
3
0
0
0

A config with a start time, and `frames`, give the same trades each time:

>>> from cryptoflow.testing import frames
>>> from cryptoflow.model.trade import read_trade
>>> config = SimulatorConfig(max_trades=3, start_time_s=1_600_000_000, time_step_s=60)
>>> [read_trade(frame).time_s for frame in frames(config, ["0~Coinbase~BTC~USD"])]
[1600000000, 1600000060, 1600000120]

A venue is simulated with its REST, and knows all that was traded, whether a client was sent it or not. Its market goes
on while nobody listens:

>>> from urllib.request import urlopen
>>> config = SimulatorConfig(venue="kraken", pairs=("BTC-USD",), faults=Faults(lost=0.5))
>>> with Simulator(config) as simulator, connect(simulator.url) as socket:
...     print(json.loads(socket.recv())["channel"])
...     socket.send('{"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}}')
...     simulator.wait_until(lambda: len(simulator.unsent("0~Kraken~BTC~USD")) > 3, timeout_s=30)
...     with urlopen(simulator.rest_url + "/0/public/Trades?pair=XBTUSD") as answer:
...         rows = json.load(answer)["result"]["XXBTZUSD"]
...     missing = set(simulator.unsent("0~Kraken~BTC~USD")[:3])
...     print(missing <= {row[-1] for row in rows}, simulator.tally.requests.total(), dict(simulator.tally.broken))
status
True 1 {}
"""

from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import frames
from cryptoflow.simulator.handle import Simulator
from cryptoflow.simulator.limits import Tally
from cryptoflow.simulator.sent import Sent

__all__ = ["Faults", "Sent", "Simulator", "SimulatorConfig", "Tally", "frames"]
