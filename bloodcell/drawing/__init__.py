"""Drawn blood cells that look the part, for demonstrations and tests where no real images are at hand.

    palette     the colours of a stained smear, and how they vary from slide to slide
    shapes      outlines, lobes, textures and granules
    sheet       what all cells are made of: cytoplasm, nucleus, granules, vacuoles
    portraits   the eight groups, each with its own nucleus, granules and size
    cells       one analyser crop: background, red cells, the cell in the middle
    drops       whole nights and labelled training folders

Nothing here comes from a photograph: every pixel is computed from a seed. A model trained on drawn cells knows drawn
cells only.
"""
