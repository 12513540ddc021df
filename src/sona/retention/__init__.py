"""What must not be forgotten: EWC++ and the task-boundary test."""
