"""kind where no image can be pulled: Docker, the node's image and all images on it, from packages of Debian and Go.

`debian` unpacks Debian, `binaries` builds Go modules, `archive` writes container images, `node` puts a node's image
together, `daemon` runs Docker in a tree of its own, `checks` says what is missing before any of it begins.
"""
