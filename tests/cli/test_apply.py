"""`blixard vm apply`: what is declared in which order."""

from blixard.cli.apply import in_order
from blixard.config.declared import DeclaredVm


def vm(name: str, group: str = "", near: tuple[str, ...] = ()) -> DeclaredVm:
    return DeclaredVm(name, "./web", group=group, near=near)


def test_a_vm_comes_after_those_that_it_is_near() -> None:
    """Else the first `apply` of a file fails, for it names somebody who is not there yet."""
    wishes = {
        one.name: one
        for one in (
            vm("a", near=("c/zone",)),
            vm("b", near=("db",)),
            vm("c", near=("elsewhere", "d")),
            vm("d", group="db"),
            vm("e", near=("f",)),
            vm("f", near=("e",)),
        )
    }
    assert in_order([*wishes, "disowned"], wishes) == ["d", "c", "a", "b", "disowned", "f", "e"]
