"""What listens to a running daemon: each client is a process of its own."""
