"""Subject: the untouched module and the task it is judged on; layers, groups, loaders."""
