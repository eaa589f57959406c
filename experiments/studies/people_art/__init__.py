"""Source detectors of people in photographs, tried on paintings ever farther from them."""
