"""The driver of benches/peers: texts, workers, rounds, agreement, the table."""
