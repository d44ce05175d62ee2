"""Auth0's vocabulary: what it sends, what it may be asked, and how often."""
