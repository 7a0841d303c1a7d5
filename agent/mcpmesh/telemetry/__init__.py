"""What the program says of itself to whoever runs it."""
