"""What Tierline reaches on the machine at hand: ratios, each measured within one run."""
