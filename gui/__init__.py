"""The operator's window; the only package that knows Qt."""

import os

# pyqtgraph takes whatever binding it finds first; this window is written for one
os.environ.setdefault("PYQTGRAPH_QT_LIB", "PySide6")
