"""The job at cluster size: its SQL, the Java it needs, and its life on a Flink cluster."""
