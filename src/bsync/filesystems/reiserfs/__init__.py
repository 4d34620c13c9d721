"""ReiserFS, version 3."""
