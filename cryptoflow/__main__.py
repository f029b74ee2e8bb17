"""`python -m cryptoflow`: the command line."""

from cryptoflow.cli import main

main()
