"""What needs several rooms: ladders, plans of measured machines, the demo."""
