"""The procedures that a client calls, and how each may be asked."""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from blixard.model import Rejected
from blixard.v1 import blixard_pb2 as pb

Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Call(Generic[Response]):
    """One procedure, and how it may be asked."""

    method: str
    answer: type[Response]
    changes: bool = False
    """It must not act twice, so it matters whether a lost attempt had been sent."""
    patient: bool = False
    """It may take long where it is answered (a flake is locked), so it is not asked elsewhere."""


@dataclass(frozen=True, slots=True)
class Miss:
    """One address did not serve the call."""

    said: str
    rejected: Rejected | None = None
    """Its own words, if it refused."""
    answered: bool = False
    """It is there: it refused, or answered something else just before."""
    leader: str = ""
    maybe_applied: bool = False
    hopeless: bool = False
    """To ask it again would change nothing."""


LIST_VMS: Final = Call("ClusterService/ListVms", pb.ListVmsResponse)
VM_STATUS: Final = Call("ClusterService/GetVmStatus", pb.GetVmStatusResponse)
CLUSTER_STATUS: Final = Call("ClusterService/GetClusterStatus", pb.GetClusterStatusResponse)
RAFT_STATUS: Final = Call("BlixardService/GetRaftStatus", pb.GetRaftStatusResponse)
OPEN_SESSION: Final = Call("ClusterService/OpenSession", pb.OpenSessionResponse)
CREATE_VM: Final = Call("ClusterService/CreateVm", pb.ChangeResponse, changes=True, patient=True)
START_VM: Final = Call("ClusterService/StartVm", pb.ChangeResponse, changes=True)
STOP_VM: Final = Call("ClusterService/StopVm", pb.ChangeResponse, changes=True)
RESTART_VM: Final = Call("ClusterService/RestartVm", pb.ChangeResponse, changes=True)
DELETE_VM: Final = Call("ClusterService/DeleteVm", pb.ChangeResponse, changes=True)
DECLARE_VM: Final = Call("ClusterService/DeclareVm", pb.ChangeResponse, changes=True, patient=True)
DISOWN_VM: Final = Call("ClusterService/DisownVm", pb.ChangeResponse, changes=True)
SET_VM_POLICY: Final = Call("ClusterService/SetVmPolicy", pb.ChangeResponse, changes=True)
MOVE_VM: Final = Call("ClusterService/MoveVm", pb.ChangeResponse, changes=True)
EXPLAIN_VM: Final = Call("ClusterService/ExplainVm", pb.ExplainVmResponse, patient=True)
DRAIN_NODE: Final = Call("ClusterService/DrainNode", pb.DrainNodeResponse, changes=True)
RESUME_NODE: Final = Call("ClusterService/ResumeNode", pb.ResumeNodeResponse, changes=True)
PLAN_DRAIN: Final = Call("ClusterService/PlanDrain", pb.PlanDrainResponse)
CONFIRM_NODE_DOWN: Final = Call(
    "ClusterService/ConfirmNodeDown", pb.ConfirmNodeDownResponse, changes=True
)
LEAVE: Final = Call(
    "ClusterService/LeaveCluster", pb.LeaveClusterResponse, changes=True, patient=True
)
JOIN_THROUGH: Final = Call(
    "ClusterService/JoinThrough", pb.JoinThroughResponse, changes=True, patient=True
)
WATCH: Final = Call("ClusterService/Watch", pb.WatchResponse)
READ_LOG: Final = Call("ClusterService/ReadLog", pb.LogChunk)
ATTACH_CONSOLE: Final = Call("ClusterService/AttachConsole", pb.ConsoleOutput)
