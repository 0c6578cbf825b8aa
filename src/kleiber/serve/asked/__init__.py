"""What requests for text say: their bodies, and what is made of them."""
