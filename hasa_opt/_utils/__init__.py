"""What every part stands on: checks of values, exact arithmetic, deadlines, processes."""
