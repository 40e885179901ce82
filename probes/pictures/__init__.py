"""An image file -> pixels: the one decoder, used offline by ``collect`` and by the service.

A file is taken apart by its format's module, which reads sizes, orientation and colour profile and
keeps what a picture is decoded from: :class:`~probes.pictures.container.Container`. Pillow decodes
that, a strict reader looks for damage, and :mod:`probes.pictures.colour` makes it 8-bit sRGB. A new
format is one module with ``take_apart`` and ``find_damage``, and a line in
:data:`probes.pictures.decoder.FORMATS`. The rules are in docs/images.md.
"""
