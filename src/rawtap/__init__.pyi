from rawtap.library import AsyncCapture as AsyncCapture
from rawtap.library import AsyncGuest as AsyncGuest
from rawtap.library import AsyncLab as AsyncLab
from rawtap.library import CallFailed as CallFailed
from rawtap.library import Capture as Capture
from rawtap.library import Guest as Guest
from rawtap.library import Lab as Lab
