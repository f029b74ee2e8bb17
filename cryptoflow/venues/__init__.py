"""The venues that trades come from, one file each, without I/O."""

from collections.abc import Mapping

from cryptoflow.venues.base import Venue
from cryptoflow.venues.binance import Binance
from cryptoflow.venues.coinbase import Coinbase
from cryptoflow.venues.cryptocompare import CryptoCompare
from cryptoflow.venues.gemini import Gemini
from cryptoflow.venues.kraken import Kraken

CRYPTOCOMPARE = CryptoCompare()

VENUES: Mapping[str, Venue] = {venue.name: venue for venue in (Coinbase(), Binance(), Kraken(), Gemini())}
"""Those with a public feed of their own, which needs no key, by their names."""
