"""The components that mnistbench ships, registered through the public hooks only."""
