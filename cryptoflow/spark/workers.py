"""Spark's daemon of Python workers, with what they all need already there: `python -m` it in place of Spark's own."""

import gc

from pyspark.daemon import manager

from cryptoflow.spark import aggregation

PRELOADED = (aggregation,)

if __name__ == "__main__":
    # A worker collects its garbage after each task: what was there before it need not be looked through.
    gc.freeze()
    manager()
