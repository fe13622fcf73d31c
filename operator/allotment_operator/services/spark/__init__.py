"""Spark: applications, each a gang of a driver and its executors, and standing clusters.

The operator runs no JVM. It makes the driver's pod itself; the driver, in client mode inside its pod, makes its own
executors. The gang is announced to the scheduler before the driver exists, executors included, so a driver never runs
without the room for its first executors.
"""
