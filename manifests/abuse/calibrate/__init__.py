"""What an owner learns of its benign traffic: the profile that arms the detectors, with its false positive rate."""
