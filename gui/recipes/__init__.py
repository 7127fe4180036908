"""A recipe as it is edited: its text with all comments, what it means, and small changes of the one by the other.

Nothing here needs Qt.
"""
