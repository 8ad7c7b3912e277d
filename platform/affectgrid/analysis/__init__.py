"""What is concluded from finished trials: intervals, arms, importance, slices, confirmation."""
