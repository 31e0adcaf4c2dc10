"""The listed objectives, one file each: the survey's five families and decorrelation, on the theory's model."""
