"""What calls a cell: networks, their training, bundles, and the registry of champions and shadows.

images -> features -> (svm | tuning) -> calibration, novelty -> assembly -> bundle        training drives them
bundle -> merged        several models as one network, for classifying and evaluating
registry                which bundles the database knows, and which is champion
"""
