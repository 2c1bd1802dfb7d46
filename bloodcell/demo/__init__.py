"""The guided tour on the real system, with a data folder of its own.

tour             a drawn night is classified, and its differentials are shown
retraining_tour  the night is labelled, a model is retrained on the labels and promoted
"""
