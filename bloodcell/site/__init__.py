"""A new laboratory: models are calibrated for its images, and it learns how well they perform there.

site_images      a laboratory's images, some with labels, by slide
class_gaussians  a linear head that a few labels fit, starting from the classes as they were learnt
site_fitting     a variant's head, temperature and thresholds
site_head        what head and parent make of a cell together
cross_fitting    what the head does on slides that it was not fitted on
site_cells       the images, sorted for fitting
site_look        how the labelled images look, and which others look like them
site_scale       how much of an image a model has to see
site_model       a model with the head of a site
site_comparison  a calibrated variant beside its parent, on slides left out
site_verdict     what it may be used for
fitted_variant   a variant fitted to the site, with all of that
site_committee   the mean of the variants of one base network
site_bundle      its bundle
calibrating      the whole calibration
site_report      all of it as one page
"""

from bloodcell.site.calibrating import calibrate
from bloodcell.site.site_images import read_site_images
from bloodcell.site.site_report import report_site, site_page

__all__ = ["calibrate", "read_site_images", "report_site", "site_page"]
