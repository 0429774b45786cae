"""Training code as a team would write it, for tests."""
