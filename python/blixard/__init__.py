"""Blixard: a cluster that keeps each microVM running on exactly one healthy host."""

__version__ = "0.1.0"
