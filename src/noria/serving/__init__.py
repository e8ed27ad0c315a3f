"""The data plane: answers requests by the newest route, whatever happens to the rest of Noria."""
