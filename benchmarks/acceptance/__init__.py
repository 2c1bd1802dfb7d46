"""Long runs that show what the tests cannot: weeks of labels and retraining through the real scheduler."""
