"""The training pipeline: versions → features → baselines → training → evaluation → gates → registration."""
