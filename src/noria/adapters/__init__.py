"""The outside world: Git, files, processes, keys and frameworks, one file each."""
