"""The data (xᵢ, yᵢ): where images and labels come from, how they are decoded, split and checked.

===============  ==================================================================================
`sources`        detects the layout of a folder, file or pair of arrays and opens it as a `Dataset`
`dataset`        `Dataset`, and the two stores of images (files, arrays)
`images`         one image file → uint8 (H, W, C); `decoding` does many on all cores
`splits`         train, validation and test sides: stratified, seeded, copies and groups together
`checks`         what is wrong with the data, each with a code and file names
===============  ==================================================================================

Importing this package imports nothing else.
"""
