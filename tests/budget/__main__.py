"""Measures everything anew, tells what has changed, and records it: ``make budget``."""

from __future__ import annotations

from tests.budget import system_calls
from tests.budget.figures import Figures, Recorded, measure


def main() -> None:
    before, now = Recorded.load(), measure()
    for title in ("counts", "memory", "process_calls", "system_calls"):
        old: dict[str, Figures] = getattr(before, title)
        new: dict[str, Figures] = getattr(now, title)
        for scenario, figures in new.items():
            print(f"{title.replace('_', ' ')}: {scenario}")
            for name, value in figures.items():
                was = old.get(scenario, {}).get(name)
                change = "new" if was is None else "as before" if value == was else f"was {was:g}"
                print(f"    {name:32} {value:10g}  {change}")
    if why := system_calls.missing():
        print(f"system calls were not counted: {why}")
    now.save()


if __name__ == "__main__":
    main()
