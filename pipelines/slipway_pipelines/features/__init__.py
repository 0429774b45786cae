"""Feature values, the Feast objects that describe them, and point-in-time joins."""
