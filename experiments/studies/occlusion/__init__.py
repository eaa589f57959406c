"""Important regions of digits: which covered part of an image changes the prediction."""
