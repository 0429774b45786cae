"""Slipway's model server: one verified scikit-learn model behind KServe's protocols, with features from Feast."""
