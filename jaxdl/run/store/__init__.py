"""What a run leaves on the disk, whole or not at all, and what is read of it again."""
