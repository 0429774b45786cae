"""The flights story on a real cluster, told act by act: `make demo` shows it, the end-to-end journeys assert it."""
