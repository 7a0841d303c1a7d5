"""`python -m mcpmesh` is `mcpmesh`."""

from mcpmesh.cli import main

main()
