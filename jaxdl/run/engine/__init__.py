"""What trains: data on devices, compiled steps, evaluation, and the loop around them."""
