"""Which way to a quality costs least, training and serving together: routes, what they cost, how they rank."""
