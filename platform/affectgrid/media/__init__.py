"""Reading video, sound and faces: `video.probe_video`, `frames`, `audio`, `faces`, `crops`; `chunks` joins them.

`guard` runs any of them in a child process with limits. Nothing here imports torch.
"""
