"""Arrays in, arrays out: convolution and pooling in plain NumPy. No files, no printing, no Pillow.

Stated once for the whole package:

- **Correlation** is what is computed; ``flip`` turns the kernel by 180 degrees and changes nothing else.
- **Axes.** The doors take pictures ``(H, W[, C])`` or tensors ``([N, [C,]] H, W)``. Behind them every array is
  ``(N, C, H, W, P)``: N items, each filtered by itself, C channels that a weight sums over, and P values that lie side
  by side in a pixel and never mix. An interleaved picture is ``(1, 1, H, W, C)``, a batch ``(N, C, H, W, 1)``, both
  views.
- **Sizes** are height first; a pair is ``(vertical, horizontal)``; pads are ``((top, bottom), (left, right))``.
- **Numbers.** float64 stays float64; everything else comes back as float32, unless another dtype is asked for, and is
  computed in float32, in exact integers, or in float64 where integers, powers or long sums need it; maxima and minima
  keep their dtype.
- **Padding, flipping, clipping and the cast** happen once, outside the methods: a method sees an already padded block
  and strides over it. Those that compute whole numbers by way of fractions round them back.
"""
