"""Does each idea of MimicMotion pay? Four arms of one small training, and four ways to join windows."""
