"""Throughput, measured on real services. Machines are noisy: read the ratios, which come from one run."""
