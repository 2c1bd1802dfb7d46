"""Labelled images become a bundle.

bundle_training  trains one model and writes its bundle
image_folders    folders of labelled images, and how they are split
fitting          the two ways to fit a variant: an SVM on frozen features, or fine-tuning
fine_tuning      stages of fine-tuning, with checkpoints
augmentation     random changes of a training image
outliers         images of no class, made from training images
image_changes    what is done to an image before its features are computed
turned_bundle    a model that averages over turns of each cell
colour           a field's colours are moved into the range of the training images
feature_cache    outputs of frozen layers, computed once and kept on disk
base_networks    VGG-16 and InceptionV3 as flat Keras graphs
base_weights     ImageNet weights, with pinned digests
warm_start       weights of an earlier model in a new network
svm              the support vector machine, and the same decision as Keras layers
calibration      the temperature, and the confidence threshold
novelty          the embedding, and the novelty threshold
model_assembly   features, scores and novelty as one Keras model
provenance       the code and the libraries that made a model
"""

from bloodcell.training.bundle_training import train
from bloodcell.training.image_folders import read_image_folders

__all__ = ["read_image_folders", "train"]
