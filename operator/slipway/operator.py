"""`slipway-operator`: the one place that knows both the runtime and the controllers."""

from __future__ import annotations

from slipway.controllers import all_controllers
from slipway.runtime.main import main as run


def main() -> None:
    """Entry point of the operator's image."""
    run(all_controllers)


if __name__ == "__main__":
    main()
