"""Words to calls: the commands ``ascfeat`` and ``ascmodels``."""
