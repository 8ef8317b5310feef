"""A read-only HTTP API over the marts, for tools that cannot read Delta tables."""
