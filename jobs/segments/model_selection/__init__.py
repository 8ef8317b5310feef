"""Which clustering is published: the number of segments, the representation of the customers, and the live model or a new one."""
