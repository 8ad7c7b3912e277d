"""A corpus drawn and synthesised by us, in the layout of the real one: for tests, and for a demo without a licence."""

from affectgrid.synthetic.rendered.config import RenderConfig
from affectgrid.synthetic.rendered.corpus import begin_corpus, missing, render_corpus, render_video
from affectgrid.synthetic.rendered.plan import VideoPlan, plan_corpus

__all__ = ["RenderConfig", "VideoPlan", "begin_corpus", "missing", "plan_corpus", "render_corpus", "render_video"]
