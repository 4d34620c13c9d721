"""What bsync knows of each kind of filesystem.  Pure, but for reading inode tables."""
