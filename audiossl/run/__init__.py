"""The run: devices, checkpoints, tracking, monitors and the report."""
