"""A new laboratory: models are fitted to its images, and it learns how well they do there.

site_images      a laboratory's images, some with labels, by slide
class_gaussians  a linear head that a few labels fit, starting from the classes as they were learnt
site_fitting     a variant's head, temperature and thresholds
cross_fitting    what the head does on slides that it was not fitted on
site_scale       how much of an image a model has to see
site_model       a model with the head of a site
site_comparison  a calibrated variant beside its parent, on slides left out
site_verdict     what it may be used for
site_bundle      its bundle
calibrating      the whole calibration
"""
