"""The reference interface service's segmentation: a video in, the same video with another background out.

Pure and synchronous. Knows files, pictures and models; never a hub, a task, a socket or a thread. What an interface
service calls, from a process of its own:

    replace_background(
        video: Path,                  the source; any of the usual containers and codecs
        background: Path | None,      a still picture; None: the plain colour of options["color"] ("#00b140")
        output: Path,                 written as MP4: H.264 yuv420p, AAC where the source has sound
        model: str,                   a name out of MODELS
        options: Mapping[str, Any],   see options.OPTIONS
        on_progress: Callable[[str, float, int], None],   phase, percent 0..100 of this call, frames done
        should_stop: Callable[[], bool],                  asked once a frame
        viewer: Viewer | None,        is shown frames in small when it wants them; a worker's job is one
    ) -> Stats                        frames, seconds, width, height

Raises `BadInput(code, detail)` for input that will never do (do not try again), `Stopped` when `should_stop` said
yes; anything else that it raises may go better elsewhere or later. Nothing is left at `output` unless it returns.
`on_progress` is called for each frame: thinning is up to the caller. One call keeps one to two cores busy.
"""

from worker.errors import BadInput, Stopped

from .models import MODELS
from .pipeline import Stats, replace_background

__all__ = ["MODELS", "BadInput", "Stats", "Stopped", "replace_background"]
