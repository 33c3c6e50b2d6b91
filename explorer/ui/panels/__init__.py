"""Parts of the Explore page; each is a function of the workspace and the subject."""
