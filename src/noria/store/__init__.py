"""The ledger (SQL), the blobs (content-addressed) and the prediction log. One small store per noun over one connection."""
