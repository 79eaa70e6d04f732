"""One picture of a person and a driving video in, a video of that person making those movements out."""
