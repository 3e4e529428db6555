"""What several tests share: known problems, stand-ins, processes that are killed."""
