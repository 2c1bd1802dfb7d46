"""The guided tour on the real system.

    tour             a drawn night is classified, and its differentials are shown
    retraining_tour  the night is labelled, a model is retrained on the labels and promoted

Both have a data folder of their own and leave a laboratory's data alone.
"""
