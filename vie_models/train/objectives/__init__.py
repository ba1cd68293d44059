"""What is learned: each objective, with the network that it needs."""
