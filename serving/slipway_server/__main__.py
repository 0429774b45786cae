"""`python -m slipway_server`."""

from slipway_server.main import main

if __name__ == "__main__":
    main()
