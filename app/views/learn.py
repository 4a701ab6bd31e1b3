"""Learn: why a diffusion transformer has blocks it doesn't need, how one can tell, and what it costs to remove them."""

from app.learn import frame

frame.draw()
