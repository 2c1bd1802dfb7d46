"""Images become the outputs of models: the one loop that classify, evaluation, monitoring and training use.

predicting      reads and decodes images, and runs a network on them batch by batch
read_ahead      reads the next batches while the device works on the present one
network         what can be run: anything that takes pixels in given sizes
merged_network  the models of several bundles as one network, in which equal layers run once
batched_model   a Keras model in batches of one shape, halved when memory runs out
model_loading   a bundle's Keras model, loaded in safe mode
model_output    what a model returns for some cells, and the calls that follow from it
keras_backend   what depends on Keras' backend and on the accelerator
quiet_start     keeps TensorFlow from reporting a missing CUDA on a machine without a GPU
"""

from bloodcell.inference.merged_network import MergedNetwork
from bloodcell.inference.model_loading import load_model
from bloodcell.inference.model_output import ModelOutput, calls_of
from bloodcell.inference.predicting import predict, predict_all
from bloodcell.inference.read_ahead import Skipped

__all__ = ["MergedNetwork", "ModelOutput", "Skipped", "calls_of", "load_model", "predict", "predict_all"]
