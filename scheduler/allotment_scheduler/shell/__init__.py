"""The live scheduler: everything around the pure core that talks to a cluster and knows what time it is."""
