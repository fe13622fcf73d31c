"""Where the content of images comes from: Debian, Maven Central and the Python package index, by their own clients."""
