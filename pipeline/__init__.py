"""The pipeline stage: the log in, tables of quota against use out."""
