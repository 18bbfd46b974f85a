"""The modules of the scripts in benches/peers: texts, workers, rounds, agreement of vectors, and the table."""
