"""What ``recon.api`` hands out: the service and its types. Other modules of this room import them from here."""

from __future__ import annotations

from recon.reading.breaks import Chosen as Chosen
from recon.service.admission import BODY_MAX as BODY_MAX
from recon.service.site import Service as Service
from recon.service.submissions import CODES as CODES
from recon.service.submissions import ENDED as ENDED
from recon.service.submissions import STATES as STATES
from recon.service.submissions import Event as Event
from recon.service.submissions import Holder as Holder
from recon.service.submissions import KeyTaken as KeyTaken
from recon.service.submissions import LaneName as LaneName
from recon.service.submissions import Refused as Refused
from recon.service.submissions import Role as Role
from recon.service.submissions import State as State
from recon.service.submissions import Submission as Submission
from recon.service.submissions import TooMany as TooMany
from recon.service.uploads import Upload as Upload
