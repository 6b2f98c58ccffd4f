"""``slicer`` as it is in ``PythonSlicer``, outside the application: no ``app``, no scene, no modules."""
