"""Features that other programs made: reading their files (`files`) and keeping them in the store (`stream`)."""
