"""The status page and the control API."""
