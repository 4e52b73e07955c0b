"""What readers of the log may rely on: the record and its decoder."""
