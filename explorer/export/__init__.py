"""What leaves the app: files that are re-loaded and compared before anybody gets them."""
