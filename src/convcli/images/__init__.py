"""Picture files: the only room that knows Pillow and file formats. It knows neither kernels nor layers."""
