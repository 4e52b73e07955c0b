"""What later stages and both engines may rely on: the tables and their DDL."""
