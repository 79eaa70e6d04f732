"""What trains the bundled miniatures and bundles them; nobody who runs released weights imports it."""
