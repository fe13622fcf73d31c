"""Evictions: who may make room for whom, and the plans that prove it worthwhile."""
