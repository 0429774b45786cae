"""The flight-delays example: its data, its training code, and a client."""
