"""The available launchers, by `launch=NAME`."""

from __future__ import annotations

from collections.abc import Mapping

from configs.schema import LaunchName
from launcher.start.launcher import Launcher
from launcher.start.local import LocalLauncher
from launcher.start.slurm import SlurmLauncher
from launcher.start.torchrun import TorchrunLauncher

LAUNCHERS: Mapping[LaunchName, Launcher] = {
    LaunchName.local: LocalLauncher(),
    LaunchName.torchrun: TorchrunLauncher(),
    LaunchName.slurm: SlurmLauncher(),
}
