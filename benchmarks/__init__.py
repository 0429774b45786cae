"""Measurements of a running Slipway, each a ratio or a count that another run can be compared with."""
