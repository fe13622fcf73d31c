"""The services that tenants can have, one package each; all the same to the engine."""
