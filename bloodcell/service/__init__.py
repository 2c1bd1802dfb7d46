"""Running bloodcell: the whole system on one machine, the watcher, the checks and the demo."""
