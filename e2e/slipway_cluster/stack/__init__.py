"""What runs in a cluster before Slipway does: gateway, model server operator, artifact store, database."""
