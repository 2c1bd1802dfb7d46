"""`python -m bloodcell` is the command line."""

from bloodcell.cli import main

main()
