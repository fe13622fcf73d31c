"""`allot demo`: a bank on one cluster, acted out on a real API server with simulated nodes."""
