"""What follows a stream over time: recurrence, convolution or self-attention."""
