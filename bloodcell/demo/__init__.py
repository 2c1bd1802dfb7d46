"""The guided tour: a drawn night and, on request, a retraining, on the real system."""
