"""What several controllers need: typed objects, schedules, Jobs and their answers, deletion of data."""
