"""Parts of the benchmark: child processes, disks, contenders, checks and the report."""
