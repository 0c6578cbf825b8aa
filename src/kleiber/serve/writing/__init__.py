"""Texts on their way from the thread that writes them to the clients that asked."""
