"""Commands on classifiers and run folders, one module or package each, named like the command."""
