"""CassandraCluster: one Cassandra data centre over racks.

`cluster` is the kind; `plan` is what a round does. What they render is in modules named for what they render; all are
pure. Only `health` talks to nodes, in CQL's own protocol (`cql`).
"""
