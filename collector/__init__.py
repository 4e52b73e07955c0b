"""The collector stage: Prometheus remote write in, a durable log out."""
