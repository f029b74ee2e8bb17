"""Tests of the Spark side; a package, so that its tests can share one Spark session that ends with the last of them."""
