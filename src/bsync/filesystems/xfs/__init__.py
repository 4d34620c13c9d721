"""XFS: not synchronised, but copied by the blocks that it has in use."""
