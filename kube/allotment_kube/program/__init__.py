"""What every long-running program of ours needs around its work: logs, an HTTP server, a reign under a Lease.

Nothing here knows what the programs do.
"""
