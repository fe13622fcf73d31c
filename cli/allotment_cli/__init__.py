"""The allot command."""
