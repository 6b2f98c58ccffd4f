# Slicer's own file prepares the package here.
