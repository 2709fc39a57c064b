"""The package's parts inside other people's loops, and other people's files in ours."""
