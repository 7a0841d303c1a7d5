"""`python -m mcpmesh.shim`."""

from mcpmesh.shim import main

if __name__ == "__main__":
    main()
