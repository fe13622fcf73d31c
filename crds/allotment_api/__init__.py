"""The Allotment API: every kind's model, and what generates the custom resource definitions from it."""

__version__ = "0.1.0"
