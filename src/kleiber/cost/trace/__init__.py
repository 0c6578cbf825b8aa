"""What needs torch to be counted: the operations of a real step, followed on tensors without values."""
