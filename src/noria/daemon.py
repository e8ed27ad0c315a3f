"""`noria up`: the daemon. Composition of the engine, the server and the console."""
