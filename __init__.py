"""Understudy: production facial performance capture with a network per actor (Laine et al., SCA 2017)."""

__version__ = "0.1.0"
