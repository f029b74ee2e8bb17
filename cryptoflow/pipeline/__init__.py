"""The two halves of the pipeline and their short cut in memory, each as one blocking function."""
