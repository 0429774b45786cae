"""A transformer of the journeys' own: `python -m prepare`."""
