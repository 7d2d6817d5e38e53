"""Other projects' distilled sets, brought into ours: a module a family of formats, a file of ``configs/kind`` a project."""
