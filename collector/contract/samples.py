"""Decoder of log records: the same C code checks what the collector accepts and reads what the pipeline rolls up."""
