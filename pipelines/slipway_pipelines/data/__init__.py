"""From objects of a source to a checked, immutable, content-addressed version of a dataset."""
