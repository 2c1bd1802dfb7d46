"""`python -m bloodcell` is `bloodcell`."""

from bloodcell.cli import main

main()
