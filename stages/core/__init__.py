"""What several rooms need, one noun per module. Imports no room."""
