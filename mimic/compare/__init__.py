"""Models side by side: the same clips through each of them, measured, and one page to look at."""
