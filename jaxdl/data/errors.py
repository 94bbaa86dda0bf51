"""What is raised when a user's data are wrong or missing: one line that names the file and what would be right."""


class DataError(ValueError):
    """A file whose content is wrong: ``FILE: what is wrong at which place; what would be right``."""


class MissingData(FileNotFoundError):
    """A file or folder that is not there: the path looked for and what would be right."""
