"""A track to look at: `page` plays its video beside its traces, `overlay` draws them into the video."""
