"""Whether a guest serves, from what its check has said so far."""

from dataclasses import dataclass, replace

from blixard.model import HealthState
from blixard.policy import GuestCheck


@dataclass(frozen=True, slots=True)
class Tally:
    """What the check of a guest has said since the guest was started."""

    is_known: bool = False
    """It has said anything."""
    has_passed: bool = False
    failures: int = 0
    """How many that count, in a row."""
    text: str = ""
    """What the last one said."""
    first_ms: int = 0
    """When it passed for the first time, after the start of the guest."""
    last_ms: int = 0

    def after(self, check: GuestCheck, active_ms: int, passed: bool, text: str) -> "Tally":
        """The tally after one more, `active_ms` after the start of the guest. Until the guest has
        passed once, a failure counts only after the start period."""
        if passed:
            first_ms = self.first_ms if self.has_passed else active_ms
            return Tally(True, True, 0, text, first_ms, active_ms)
        counts = self.has_passed or active_ms >= check.start_period_ms
        return replace(self, is_known=True, failures=self.failures + counts, text=text)

    @property
    def well_ms(self) -> int:
        """From the first time that the guest passed to the last."""
        return self.last_ms - self.first_ms

    def state(self, check: GuestCheck) -> HealthState:
        """A guest that has passed is well until as many failures in a row as its check says."""
        if self.failures >= check.failures:
            return HealthState.FAILING
        return HealthState.OK if self.has_passed else HealthState.STARTING
