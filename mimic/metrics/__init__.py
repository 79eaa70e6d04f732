"""How good is a picture or a video? Arrays in, numbers out."""
