"""A new laboratory: models are fitted to its images, and it learns how well they do there.

site_images      a laboratory's images, some with labels, by slide
class_gaussians  a linear head that a few labels fit, starting from the classes as they were learnt
cross_fitting    what the head does on slides that it was not fitted on
site_model       a model with the head of a site
calibrating      the whole calibration: images become bundles of the site
"""
