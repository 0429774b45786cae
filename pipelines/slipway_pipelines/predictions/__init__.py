"""Jobs over the prediction log: compare two versions, and remove what is old."""
