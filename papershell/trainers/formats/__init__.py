"""Files of arrays, a module for each format: headers and sizes are checked first, and no object is unpickled."""
