"""Container images without a registry: made from packages, kept as an OCI image layout, given to nodes as a whole."""
