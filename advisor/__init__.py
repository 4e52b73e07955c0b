"""The advisor stage: tables in, findings and one joint plan out, written back as changes."""
